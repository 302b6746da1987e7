"""TFLite Metadata for an image segmenter: what MediaPipe and Android read to prepare the image and name the classes.

The tables are those of TensorFlow Lite's `metadata_schema.fbs` (min_parser_version 1.0.0, file identifier M001) and of
MediaPipe's `image_segmenter_metadata_schema.fbs` (V001). They are few, so they are packed here field by field.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeseg.backends.tflite.builder import Metadata
from edgeseg.core import records
from edgeseg.core.spec import SPEC_KEY, ModelSpec

LABELS = "labels.txt"

_IMAGE_PROPERTIES = 2  # of the union ContentProperties
_FEATURE_PROPERTIES = 1
_NORMALIZATION = 1  # of the union ProcessUnitOptions
_RGB = 1  # ColorSpaceType
_AXIS_LABELS = 2  # AssociatedFileType TENSOR_AXIS_LABELS
_ACTIVATIONS = {"probabilities": 0, "logits": 2, "sigmoid": 1}  # MediaPipe: NONE, SOFTMAX, SIGMOID

Field = Callable[[Any], None]


def describe(spec: ModelSpec) -> tuple[list[Metadata], dict[str, str], tuple[str, ...]]:
    """The metadata of a written file.

    Args:
        spec: The spec as it holds for the file.

    Returns:
        Blobs to embed, files to pack (name to text), and notes for the user where MediaPipe could not use the file; the
        spec itself is always embedded.
    """
    ours = [Metadata(SPEC_KEY, records.to_json(spec).encode())]
    if spec.input_layout != "nhwc" or spec.output_layout == "nchw":
        return ours, {}, ("no TFLite Metadata: MediaPipe takes images as NHWC only",)
    if spec.color != "rgb":
        return ours, {}, ("no TFLite Metadata: it cannot say that the network wants BGR, and MediaPipe feeds RGB",)
    if spec.states or spec.output_kind == "labels":
        return ours, {}, ("no TFLite Metadata: MediaPipe's ImageSegmenter takes one image in and scores out",)
    channels = spec.classes[1:] if spec.output_channels == 1 else spec.classes  # one channel scores the foreground
    labels = {LABELS: "\n".join(channels) + "\n"}
    blobs = [
        *ours,
        Metadata("TFLITE_METADATA", _model_metadata(spec)),
        Metadata("min_runtime_version", b"1.5.0".ljust(16, b"\0")),
    ]
    return blobs, labels, ()


def packed(content: bytes, files: Mapping[str, str]) -> bytes:
    """A TFLite file with text files appended as a zip archive, as the metadata library packs them (stored, undated)."""
    if not files:
        return content
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


def _model_metadata(spec: ModelSpec) -> bytes:
    import flatbuffers

    b = flatbuffers.Builder(1024)
    image = _table(b, 2, [_byte(0, _RGB), _offset(1, _image_size(b, spec))])
    content = _table(b, 3, [_byte(0, _IMAGE_PROPERTIES), _offset(1, image)])
    mean, std, highest, lowest = _value_range(spec)
    normalization = _table(b, 2, [_offset(0, _floats(b, mean)), _offset(1, _floats(b, std))])
    unit = _table(b, 2, [_byte(0, _NORMALIZATION), _offset(1, normalization)])
    stats = _table(b, 2, [_offset(0, _floats(b, highest)), _offset(1, _floats(b, lowest))])
    image_in = _table(
        b,
        7,
        [
            _offset(0, b.CreateString(spec.input_name)),
            _offset(1, b.CreateString("The image to segment, normalised as the options say.")),
            _offset(3, content),
            _offset(4, _vector(b, [unit])),
            _offset(5, stats),
        ],
    )
    scores = _table(b, 3, [_byte(0, _FEATURE_PROPERTIES), _offset(1, _table(b, 0, []))])
    names = _table(
        b,
        5,
        [
            _offset(0, b.CreateString(LABELS)),
            _offset(1, b.CreateString("The classes, in the order of the channels.")),
            _byte(2, _AXIS_LABELS),
        ],
    )
    masks_out = _table(
        b,
        7,
        [
            _offset(0, b.CreateString(spec.output_name)),
            _offset(1, b.CreateString("A score for every class at every pixel.")),
            _offset(3, scores),
            _offset(6, _vector(b, [names])),
        ],
    )
    custom = _table(
        b, 2, [_offset(0, b.CreateString("SEGMENTER_METADATA")), _offset(1, _blob(b, _segmenter_options(spec)))]
    )
    graph = _table(
        b,
        10,
        [_offset(2, _vector(b, [image_in])), _offset(3, _vector(b, [masks_out])), _offset(9, _vector(b, [custom]))],
    )
    model = _table(
        b,
        8,
        [
            _offset(0, b.CreateString(spec.name)),
            _offset(1, b.CreateString("Image segmentation: input RGB, output one score per class and pixel.")),
            _offset(3, _vector(b, [graph])),
            _offset(7, b.CreateString("1.0.0")),
        ],
    )
    b.Finish(model, file_identifier=b"M001")
    return bytes(b.Output())


def _value_range(spec: ModelSpec) -> tuple[list[float], list[float], list[float], list[float]]:
    """Mean and deviation of the image's values 0 to 255, and the largest and smallest value that comes of it."""
    if spec.input_dtype == "uint8":  # the image goes in as it is
        return [0.0] * 3, [1.0] * 3, [255.0] * 3, [0.0] * 3
    pairs = list(zip(spec.mean, spec.std, strict=True))
    return (
        [mean * 255.0 for mean in spec.mean],
        [std * 255.0 for std in spec.std],
        [(1.0 - mean) / std for mean, std in pairs],
        [(0.0 - mean) / std for mean, std in pairs],
    )


def _segmenter_options(spec: ModelSpec) -> bytes:
    """MediaPipe's ImageSegmenterOptions: which activation turns the scores into confidences."""
    import flatbuffers

    kind = "sigmoid" if spec.output_kind == "logits" and spec.output_channels == 1 else spec.output_kind
    b = flatbuffers.Builder(64)
    options = _table(b, 2, [_byte(0, _ACTIVATIONS[kind]), _offset(1, b.CreateString("1.0.0"))])
    b.Finish(options, file_identifier=b"V001")
    return bytes(b.Output())


def _image_size(b: Any, spec: ModelSpec) -> int:
    def unsigned(slot: int, value: int) -> Field:
        return lambda builder: builder.PrependUint32Slot(slot, value, 0)

    return _table(b, 2, [unsigned(0, spec.width), unsigned(1, spec.height)])


def _table(b: Any, slots: int, fields: Sequence[Field]) -> int:
    b.StartObject(slots)
    for add in fields:
        add(b)
    return int(b.EndObject())


def _offset(slot: int, value: int) -> Field:
    return lambda b: b.PrependUOffsetTRelativeSlot(slot, value, 0)


def _byte(slot: int, value: int) -> Field:
    return lambda b: b.PrependUint8Slot(slot, value, 0)


def _vector(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _floats(b: Any, values: Sequence[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return int(b.EndVector())


def _blob(b: Any, content: bytes) -> int:
    b.StartVector(1, len(content), 16)
    b.head = b.head - len(content)
    b.Bytes[b.head : b.head + len(content)] = content
    return int(b.EndVector())
