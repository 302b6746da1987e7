"""Whole conversions: the file, its spec, its metadata, and what happens when something is wrong."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from edgeseg.backends.tflite import BACKEND
from edgeseg.core import records
from edgeseg.core.errors import EdgesegError, GraphError
from edgeseg.core.spec import ModelSpec, State

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture
def spec():
    """A small segmenter."""
    return ModelSpec("tiny", 16, 12, "image", "scores")


@pytest.fixture
def network(make_model, rand):
    """Two convolutions, a resize and a second, hidden output to look at."""
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="stem", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="head"),
        helper.make_node("Resize", ["c2", "", "scales"], ["scores"], name="up", mode="linear"),
    ]
    constants = {"w1": rand(8, 3, 3, 3), "w2": rand(2, 8, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32)}
    return make_model(nodes, {"image": rand(1, 3, 12, 16)}, constants, ["scores"])


def details(path):
    """Input and output details of a file, and the interpreter."""
    from edgeseg.backends.tflite.runtime import TfliteSession

    session = TfliteSession(path)
    return session.inputs, session.outputs


def operators(path):
    """Names of the operators in a file, and the whole model."""
    from edgeseg.backends.tflite.schema import generated

    s = generated()
    model = s.ModelT.InitFromObj(s.Model.GetRootAsModel(path.read_bytes(), 0))
    names = {value: name for name, value in vars(s.BuiltinOperator).items() if isinstance(value, int)}
    return [names[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators], model


def test_the_file_is_nhwc_and_its_spec_says_so(network, spec, tmp_path, rand):
    conversion = BACKEND.convert(network, spec, "fp32", tmp_path)
    assert conversion.files == ("model.tflite",)
    assert conversion.spec == spec.with_layout("nhwc")
    inputs, outputs = details(tmp_path / "model.tflite")
    assert tuple(inputs["image"]["shape"]) == conversion.spec.input_shape == (1, 12, 16, 3)
    assert tuple(outputs["scores"]["shape"]) == (1, 12, 16, 2)
    kinds, _ = operators(tmp_path / "model.tflite")
    assert "TRANSPOSE" not in kinds


def test_nchw_on_request(network, spec, tmp_path):
    conversion = BACKEND.convert(network, spec, "fp32", tmp_path, io_layout="nchw")
    assert conversion.spec == spec
    inputs, outputs = details(tmp_path / "model.tflite")
    assert tuple(inputs["image"]["shape"]) == (1, 3, 12, 16)
    assert tuple(outputs["scores"]["shape"]) == (1, 2, 12, 16)


def test_a_session_runs_and_checks_what_it_is_fed(network, spec, tmp_path, rand):
    from edgeseg.backends.tflite import parity

    conversion = BACKEND.convert(network, spec, "fp32", tmp_path)
    session = BACKEND.load(tmp_path / "model.tflite", conversion.spec, threads=1, options={"delegate": "none"})
    image = rand(1, 3, 12, 16)
    [expected] = parity.reference(network).run(None, {"image": image})
    found = session.run({"image": image.transpose(0, 2, 3, 1)})["scores"].transpose(0, 3, 1, 2)
    assert np.abs(found - expected).max() < 1e-5
    with pytest.raises(EdgesegError, match=r"input 'image' is float32 \(1, 12, 16, 3\) in the file"):
        session.run({"image": image})
    with pytest.raises(EdgesegError, match="given were picture"):
        session.run({"picture": image})
    session.close()
    with pytest.raises(EdgesegError, match="has no input 'other'"):
        BACKEND.load(tmp_path / "model.tflite", replace(conversion.spec, input_name="other"), threads=1, options={})


def test_half_precision_stores_weights_behind_dequantize(network, spec, tmp_path):
    BACKEND.convert(network, spec, "fp16", tmp_path)
    kinds, model = operators(tmp_path / "model.tflite")
    assert kinds.count("DEQUANTIZE") >= 2
    codes = {code.builtinCode: code.version for code in model.operatorCodes}
    assert codes[6] == 3, "DEQUANTIZE of float16 is version 3"
    inputs, outputs = details(tmp_path / "model.tflite")
    assert {detail["dtype"] for detail in (*inputs.values(), *outputs.values())} == {np.float32}


def test_a_float_graph_is_not_called_int8(network, spec, tmp_path):
    with pytest.raises(EdgesegError, match="nothing is quantised"):
        BACKEND.convert(network, spec, "int8", tmp_path)


def test_names_and_signature_are_kept(network, spec, tmp_path):
    BACKEND.convert(network, spec, "fp32", tmp_path)
    _, model = operators(tmp_path / "model.tflite")
    names = {tensor.name.decode() for tensor in model.subgraphs[0].tensors}
    assert {"image", "r1", "c2", "scores"} <= names
    [signature] = model.signatureDefs
    assert signature.signatureKey.decode() == "serving_default"
    assert [entry.name.decode() for entry in signature.inputs] == ["image"]


def test_all_nodes_that_cannot_be_written_are_named_at_once(make_model, spec, tmp_path, rand):
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="stem"),
        helper.make_node("GridSample", ["c", "grid"], ["g"], name="warp"),
        helper.make_node("Relu", ["g"], ["r"], name="fine"),
        helper.make_node("Det", ["square"], ["d"], name="determinant"),
        helper.make_node("MaxPool", ["g"], ["scores", "indices"], name="pool", kernel_shape=[2, 2]),
    ]
    feeds = {"image": rand(1, 3, 12, 16)}
    constants = {"w": rand(2, 3, 1, 1), "grid": rand(1, 12, 16, 2)}
    model = make_model(nodes, {**feeds, "square": rand(3, 3)}, constants, ["scores", "indices", "d", "r"])
    with pytest.raises(GraphError) as caught:
        BACKEND.convert(model, spec, "fp32", tmp_path)
    assert caught.value.message.startswith("3 nodes cannot be written as TFLite: ")
    for part in ("GridSample 'warp'", "Det 'determinant'", "MaxPool 'pool': its indices are read"):
        assert part in caught.value.message
    assert "--converter onnx2tf" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_planted_fault_is_found_at_its_node_and_leaves_nothing(network, spec, tmp_path, monkeypatch):
    from edgeseg.backends.tflite.context import LOWERINGS
    from edgeseg.backends.tflite.ops import register_all
    from edgeseg.backends.tflite.ops.activation import unary

    register_all()
    monkeypatch.setitem(LOWERINGS, "Relu", lambda ctx, node: ctx.bind_value(unary(ctx, "RELU6", ctx.input(0))))
    network.graph.initializer[0].CopyFrom(_scaled(network.graph.initializer[0], 10))
    with pytest.raises(GraphError, match=r"output 'scores' differs by .* the values part at Relu 'relu'"):
        BACKEND.convert(network, spec, "fp32", tmp_path)
    assert list(tmp_path.iterdir()) == []


def _scaled(tensor, factor):
    from onnx import numpy_helper

    return numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name)


def test_a_weight_off_by_one_percent_is_found(network, spec, tmp_path, monkeypatch):
    from edgeseg.backends.tflite.context import Context

    exact = Context.floats
    monkeypatch.setattr(Context, "floats", lambda self, values, name="": exact(self, np.asarray(values) * 1.01, name))
    with pytest.raises(GraphError, match=r"the values part at Relu 'relu' \(seen together with Conv 'stem'\)"):
        BACKEND.convert(network, spec, "fp32", tmp_path)


def test_a_dynamic_input_is_refused_with_its_shape(network, spec, tmp_path):
    network.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(GraphError, match=r"input 'image' has no static shape \(1x3x\?x16\)"):
        BACKEND.convert(network, spec, "fp32", tmp_path)


def test_a_spec_of_another_model_is_refused(network, spec, tmp_path):
    with pytest.raises(GraphError, match="the model has no output 'mask'; it has scores"):
        BACKEND.convert(network, replace(spec, output_name="mask"), "fp32", tmp_path)


def test_recurrent_state_is_fed_from_the_run_before(make_model, tmp_path, rand):
    from onnx import helper

    from edgeseg.backends.tflite import parity

    nodes = [  # a convolutional gated unit, as in robust video matting
        helper.make_node("Concat", ["image", "state"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "wz"], ["z0"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["z0"], ["z"]),
        helper.make_node("Conv", ["both", "wc"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["c0"], ["c"]),
        helper.make_node("Sub", ["one", "z"], ["rest"]),
        helper.make_node("Mul", ["rest", "state"], ["kept"]),
        helper.make_node("Mul", ["z", "c"], ["fresh"]),
        helper.make_node("Add", ["kept", "fresh"], ["new_state"]),
        helper.make_node("Conv", ["new_state", "wo"], ["scores"]),
    ]
    feeds = {"image": rand(1, 3, 12, 16), "state": rand(1, 4, 12, 16)}
    constants = {"wz": rand(4, 7, 3, 3), "wc": rand(4, 7, 3, 3), "wo": rand(2, 4, 1, 1), "one": np.float32(1)}
    model = make_model(nodes, feeds, constants, ["scores", "new_state"])
    spec = ModelSpec("video", 16, 12, "image", "scores", states=(State("state", "new_state", (1, 4, 12, 16)),))
    conversion = BACKEND.convert(model, spec, "fp32", tmp_path)
    assert conversion.spec.states[0].shape == (1, 12, 16, 4)
    session = BACKEND.load(tmp_path / "model.tflite", conversion.spec, threads=1, options={})
    reference = parity.reference(model)
    ours, theirs = np.zeros((1, 12, 16, 4), np.float32), np.zeros((1, 4, 12, 16), np.float32)
    for _ in range(3):
        image = rand(1, 3, 12, 16)
        found = session.run({"image": image.transpose(0, 2, 3, 1), "state": ours})
        scores, theirs = reference.run(None, {"image": image, "state": theirs})
        ours = found["new_state"]
        assert np.abs(found["scores"].transpose(0, 3, 1, 2) - scores).max() < 1e-4


def test_labels_are_packed_and_read_back(network, spec, tmp_path):
    BACKEND.convert(network, spec, "fp32", tmp_path)
    with zipfile.ZipFile(io.BytesIO((tmp_path / "model.tflite").read_bytes())) as archive:
        assert archive.read("labels.txt").decode().split() == ["background", "person"]
    _, model = operators(tmp_path / "model.tflite")
    blobs = {entry.name: bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    assert records.from_json(ModelSpec, blobs[b"edgeseg.spec"]) == spec.with_layout("nhwc")
    content = blobs[b"TFLITE_METADATA"]
    assert content[4:8] == b"M001"
    for text in (b"image", b"scores", b"labels.txt", b"SEGMENTER_METADATA", b"V001"):
        assert text in content


@pytest.mark.parametrize(
    ("change", "note"),
    [({"color": "bgr"}, "BGR"), ({"states": (State("image", "scores", (1,)),)}, "one image in")],
)
def test_where_metadata_would_lie_there_is_a_note(spec, change, note):
    from edgeseg.backends.tflite import metadata

    blobs, files, notes = metadata.describe(replace(spec.with_layout("nhwc"), **change))
    assert [blob.name for blob in blobs] == ["edgeseg.spec"]
    assert files == {}
    assert note in notes[0]


def test_mediapipe_opens_the_file_and_segments(network, spec, tmp_path, need):
    need("mediapipe")
    BACKEND.convert(network, spec, "fp32", tmp_path)
    program = """
import sys, numpy as np, mediapipe as mp
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision
options = vision.ImageSegmenterOptions(
    base_options=tasks.BaseOptions(model_asset_path=sys.argv[1]), output_confidence_masks=True)
with vision.ImageSegmenter.create_from_options(options) as segmenter:
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    result = segmenter.segment(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
    np.savez(sys.argv[2], image=image, person=result.confidence_masks[1].numpy_view(), labels=segmenter.labels)
"""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "model.tflite"), str(tmp_path / "result.npz")], check=True
    )
    from edgeseg.backends.tflite import parity

    seen = np.load(tmp_path / "result.npz")
    assert list(seen["labels"]) == ["background", "person"]
    x = ((seen["image"] / 255.0 - 0.5) / 0.5).astype(np.float32).transpose(2, 0, 1)[None]
    [scores] = parity.reference(network).run(None, {"image": x})
    person = 1 / (1 + np.exp(scores[0, 0] - scores[0, 1]))
    assert np.abs(seen["person"].squeeze() - person).max() < 0.02


@pytest.fixture
def humanseg(shared):
    """The real checkpoint as ONNX with its size pinned, and its spec."""
    import onnx

    model = onnx.load(str(shared / "checkpoints/pphumanseg_lite_portrait/paddle2onnx.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return model, ModelSpec("pphumanseg-lite", 398, 224, "x", "fetch_name_0", output_kind="probabilities")


def test_the_real_network_is_written_with_few_transposes(humanseg, tmp_path):
    model, spec = humanseg
    BACKEND.convert(model, spec, "fp32", tmp_path)
    kinds, _ = operators(tmp_path / "model.tflite")
    assert kinds.count("TRANSPOSE") <= 12
    assert "SOFTMAX" not in kinds


def photos(shared, spec, limit):
    """The validation photos as the network takes them, [1, 3, H, W]."""
    import cv2

    folder = shared / "data/portraits"
    for line in (folder / "val.txt").read_text().splitlines()[:limit]:
        image = cv2.cvtColor(cv2.imread(str(folder / line.split()[0])), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, (spec.width, spec.height), interpolation=cv2.INTER_LINEAR)
        x = (image / 255.0 - np.array(spec.mean)) / np.array(spec.std)
        yield x.astype(np.float32).transpose(2, 0, 1)[None]


@pytest.mark.parametrize(("precision", "count"), [("fp32", 125), ("fp16", 25)])
def test_the_real_network_gives_the_same_masks(humanseg, shared, tmp_path, precision, count):
    from edgeseg.backends.tflite import parity

    model, spec = humanseg
    conversion = BACKEND.convert(model, spec, precision, tmp_path)
    session = BACKEND.load(tmp_path / "model.tflite", conversion.spec, threads=1, options={})
    reference = parity.reference(model)
    flipped = pixels = 0
    for x in photos(shared, spec, count):
        [scores] = reference.run(None, {"x": x})
        found = session.run({"x": np.ascontiguousarray(x.transpose(0, 2, 3, 1))})["fetch_name_0"]
        flipped += int((found.argmax(axis=3) != scores.argmax(axis=1)).sum())
        pixels += found.shape[1] * found.shape[2]
    assert pixels == count * spec.width * spec.height
    assert flipped == 0 if precision == "fp32" else flipped / pixels < 5e-4


def test_a_fully_dynamic_export_folds_to_the_same_network(shared, tmp_path):
    import onnx

    model = onnx.load(str(shared / "checkpoints/pphumanseg_lite_portrait/paddle2onnx_2021_dynamic.onnx"))
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 224, 398), strict=True):
        dim.dim_value = size
    spec = ModelSpec("old", 398, 224, "x", model.graph.output[0].name, output_kind="probabilities")
    BACKEND.convert(model, spec, "fp32", tmp_path)
    kinds, _ = operators(tmp_path / "model.tflite")
    assert len(kinds) < 130
    assert kinds.count("TRANSPOSE") <= 12


def test_the_reference_is_the_model_as_it_was_given(make_model, tmp_path, rand, monkeypatch):
    """Operators without a lowering are replaced by their ONNX function body; a wrong body must not become the truth."""
    from onnx import helper

    from edgeseg.backends.tflite import prepare

    model = make_model(
        [helper.make_node("ThresholdedRelu", ["image"], ["scores"])], {"image": rand(1, 3, 12, 16)}, {}, ["scores"]
    )
    wrong = make_model([helper.make_node("Relu", ["image"], ["scores"])], {"image": rand(1, 3, 12, 16)}, {}, ["scores"])
    monkeypatch.setattr(prepare, "_expanded", lambda model, known: wrong)
    with pytest.raises(GraphError, match="output 'scores' differs"):
        BACKEND.convert(model, ModelSpec("tiny", 16, 12, "image", "scores", output_channels=3), "fp32", tmp_path)
