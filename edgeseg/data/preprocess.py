"""Image → input tensor and output tensor → mask, as a ModelSpec says.

The one implementation for the reference run, verify and the worker on a device, so it needs numpy only and runs on
Python 3.9. Resizing is bilinear with half-pixel centres and no antialias (what OpenCV calls ``INTER_LINEAR`` and ONNX
``linear, half_pixel``), computed in float32 on all platforms alike, without rounding back to 8 bit in between.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError
from edgeseg.core.spec import ModelSpec


@lru_cache(maxsize=64)
def _taps(source: int, target: int) -> tuple[Array, Array, Array]:
    """For each target position: the two source positions that it mixes, and the weight of the second (float32)."""
    position = (np.arange(target, dtype=np.float64) + 0.5) * (source / target) - 0.5
    position = np.clip(position, 0.0, source - 1.0)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, source - 1)
    return low, high, (position - low).astype(np.float32)


def resize_bilinear(planes: Array, height: int, width: int) -> Array:
    """Resize the last two axes.

    Args:
        planes: [..., H, W], float32.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        [..., height, width], float32.
    """
    if planes.shape[-2:] == (height, width):
        return planes
    top, bottom, down = _taps(planes.shape[-2], height)
    left, right, across = _taps(planes.shape[-1], width)
    # Rows first: the gather of whole rows is a plain copy, and the costlier column gather then sees fewer of them
    # when an image is shrunk, which is the common case.
    rows = planes.take(top, axis=-2)
    below = planes.take(bottom, axis=-2)
    below -= rows
    below *= down[:, None]
    rows += below
    columns = rows.take(left, axis=-1)
    beside = rows.take(right, axis=-1)
    beside -= columns
    beside *= across
    columns += beside
    return columns


def resize_nearest(plane: Array, height: int, width: int) -> Array:
    """Resize the last two axes of a label map, nearest neighbour with half-pixel centres."""
    rows = ((np.arange(height) + 0.5) * (plane.shape[-2] / height)).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * (plane.shape[-1] / width)).astype(np.intp)
    return plane[..., rows, :][..., columns]


def to_input(image: Array, spec: ModelSpec) -> Array:
    """One image as the network's input tensor.

    Args:
        image: [H, W, 3], uint8, RGB.
        spec: The network's spec.

    Returns:
        `spec.input_shape`, `spec.input_dtype` (int8 with `spec.input_stored`), C-contiguous.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise GraphError(f"an image has to be [H, W, 3] uint8, not {list(image.shape)} {image.dtype}")
    tensor = np.empty((3, spec.height, spec.width), np.float32)
    # One channel at a time: the working set then stays in the second-level cache, which halves the time.
    for channel, plane in enumerate(tensor):
        source = image[:, :, channel if spec.color == "rgb" else 2 - channel]
        plane[...] = resize_bilinear(source.astype(np.float32), spec.height, spec.width)
    if spec.input_dtype == "uint8":
        tensor = np.rint(tensor).astype(np.uint8)
    else:
        scale, shift = _affine(spec.mean, spec.std)
        tensor *= scale
        tensor += shift
        if spec.input_stored is not None:
            tensor /= np.float32(spec.input_stored.scale)
            tensor = np.clip(np.rint(tensor) + spec.input_stored.zero, -128, 127).astype(np.int8)
    if spec.input_layout == "nhwc":
        tensor = tensor.transpose(1, 2, 0)
    return np.ascontiguousarray(tensor)[None]


@lru_cache(maxsize=64)
def _affine(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Array, Array]:
    """``(x / 255 - mean) / std`` as one multiplication and one addition, [3, 1, 1] float32 each."""
    scale = 1.0 / (255.0 * np.asarray(std, dtype=np.float64))
    shift = -np.asarray(mean, dtype=np.float64) / np.asarray(std, dtype=np.float64)
    return scale.astype(np.float32)[:, None, None], shift.astype(np.float32)[:, None, None]


def scores(output: Array, spec: ModelSpec) -> Array:
    """The network's scores without batch and layout.

    Returns:
        [C, H, W] float32; for two classes the one difference foreground - background ([1, H, W]), because resizing
        and argmax need no more than that; for one channel the logit, or the probability minus 0.5. Foreground is
        where a single channel is above 0.
    """
    if output.shape[0] != 1:
        raise GraphError(f"a batch of one was expected, the output is {list(output.shape)}")
    planes = output[0]
    if spec.output_stored is not None:
        planes = (planes.astype(np.float32) - spec.output_stored.zero) * np.float32(spec.output_stored.scale)
    if spec.output_layout == "nhwc":
        planes = planes.transpose(2, 0, 1)
    if planes.ndim != 3 or planes.shape[0] != spec.output_channels:
        raise GraphError(f"{spec.output_channels} x H x W scores were expected, the output is {list(output.shape)}")
    if spec.output_channels == 2:
        return np.subtract(planes[1:2], planes[0:1], dtype=np.float32)
    planes = np.ascontiguousarray(planes, dtype=np.float32)
    return planes - np.float32(0.5) if planes.shape[0] == 1 and spec.output_kind == "probabilities" else planes


def to_mask(output: Array, spec: ModelSpec, height: int, width: int) -> Array:
    """The mask of one image.

    Args:
        output: The network's output tensor, in `spec.output_layout`.
        spec: The network's spec.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        [height, width], uint8, class indices.
    """
    if spec.output_kind == "labels":
        labels = np.squeeze(output)
        if labels.ndim != 2:
            raise GraphError(f"one label map was expected, the output is {list(output.shape)}")
        return resize_nearest(labels.astype(np.uint8), height, width)
    planes = resize_bilinear(scores(output, spec), height, width)
    if planes.shape[0] == 1:
        return (planes[0] > 0).view(np.uint8)
    return planes.argmax(axis=0).astype(np.uint8)
