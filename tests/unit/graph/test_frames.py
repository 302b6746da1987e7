"""Frames of bytes into the network: what comes out is what comes out of the prepared picture, borders included."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeseg.core.errors import EdgesegError
from edgeseg.core.spec import ModelSpec
from edgeseg.data.preprocess import to_input
from edgeseg.graph import frames
from edgeseg.quantization.simulation import session_of
from tests.unit.graph.rewrites.sketch import Sketch

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(model, feed):
    if model.graph.output[0].type.tensor_type.elem_type == TensorProto.DOUBLE:
        return ReferenceEvaluator(model).run(None, {"image": feed})[0]
    return session_of(model).run(None, {"image": feed})[0]


def apart(model, spec, changed, frame):
    """The largest difference between a model with a prepared picture and one with the frame, relative."""
    prepared = to_input(frame, spec)
    if model.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE:  # prepared without rounding to float32
        colours = frame[:, :, :: 1 if spec.color == "rgb" else -1].astype(np.float64)
        prepared = ((colours / 255 - spec.mean) / spec.std).transpose(2, 0, 1)[None]
    before, after = run(model, prepared), run(changed, to_input(frame, frames.frame_spec(spec)))
    return float(np.abs(before - after).max() / np.abs(before).max())


@st.composite
def drawn(draw):
    """A network whose picture is read by one or two convolutions, or by something that has no weights, and its spec."""
    sketch = Sketch(draw(st.integers(0, 9)), height=12, width=10)
    kernel = draw(st.sampled_from([1, 2, 3, 5]))
    pads = [draw(st.integers(0, kernel // 2)) for _ in range(4)]
    how = draw(st.sampled_from(["one", "two", "relu", "both", "depthwise"]))
    x = sketch.relu("image") if how == "relu" else "image"
    if how == "depthwise":
        x = sketch.depthwise(x)
    y = sketch.conv(x, 4, kernel=kernel, pads=pads, bias=draw(st.booleans()), strides=[draw(st.integers(1, 2))] * 2)
    if how == "two":
        y = sketch.op("GlobalAveragePool", [sketch.concat(y, sketch.conv(y, 2))], 6)
        y = sketch.concat(y, sketch.op("GlobalAveragePool", [sketch.conv("image", 3)], 3))
    if how == "both":
        y = sketch.concat(sketch.op("GlobalMaxPool", ["image"], 3), sketch.op("GlobalMaxPool", [y], 4))
    mean, std = (
        tuple(draw(st.lists(values, min_size=3, max_size=3)))
        for values in (st.sampled_from([0.0, 0.5, 0.406, 0.485]), st.sampled_from([0.5, 0.225, 1.0]))
    )
    spec = ModelSpec(
        "sketch", 10, 12, "image", y, mean=mean, std=std, color=draw(st.sampled_from(["rgb", "bgr"]))
    )  # fmt: skip
    return sketch, spec


@pytest.mark.parametrize("merged", [True, False])
@QUICK
@given(case=drawn(), double=st.booleans())
def test_outputs_stay(case, merged, double):
    sketch, spec = case
    model = sketch.model(spec.output_name, double=double)
    frame = np.random.default_rng(3).integers(0, 256, (12, 10, 3), np.uint8)
    changed = frames.take_frames(model, spec, merged=merged)
    assert apart(model, spec, changed, frame) <= (1e-10 if double else 2e-5)


def stem(*, pads=1, color="bgr", mean=(0.485, 0.456, 0.406)):
    sketch = Sketch()
    x = sketch.relu(sketch.conv("image", 4, pads=[pads] * 4))
    return sketch.model(x), ModelSpec("sketch", 10, 12, "image", x, color=color, mean=mean, std=(0.2, 0.3, 0.4))


def kinds(model):
    return [node.op_type for node in model.graph.node]


def test_nothing_is_left_but_the_mean_where_borders_are_padded_and_nothing_at_all_where_not():
    model, spec = stem()
    assert kinds(frames.take_frames(model, spec)) == ["Transpose", "Cast", "Sub", "Conv", "Relu"]
    model, spec = stem(pads=0)
    assert kinds(frames.take_frames(model, spec)) == ["Transpose", "Cast", "Conv", "Relu"]
    model, spec = stem(mean=(0.0, 0.0, 0.0))
    assert kinds(frames.take_frames(model, spec)) == ["Transpose", "Cast", "Conv", "Relu"]


def test_the_spec_says_that_nothing_is_left_to_prepare():
    _, spec = stem()
    frame = np.random.default_rng(3).integers(0, 256, (12, 10, 3), np.uint8)
    fed = to_input(frame, frames.frame_spec(spec))
    assert fed.dtype == np.uint8
    np.testing.assert_array_equal(fed[0], frame)


def test_a_wrong_border_is_caught(monkeypatch):
    model, spec = stem()
    monkeypatch.setattr(frames, "_pads", lambda conv: False)  # the mean goes into the bias all the same
    frame = np.random.default_rng(3).integers(0, 256, (12, 10, 3), np.uint8)
    changed = frames.take_frames(model, spec)
    assert apart(model, spec, changed, frame) > 1e-2
    before, after = run(model, to_input(frame, spec)), run(changed, to_input(frame, frames.frame_spec(spec)))
    np.testing.assert_allclose(before[..., 1:-1, 1:-1], after[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_colours_that_are_not_swapped_are_caught():
    model, spec = stem()
    frame = np.random.default_rng(3).integers(0, 256, (12, 10, 3), np.uint8)
    changed = frames.take_frames(model, spec)
    assert apart(model, spec, changed, frame) <= 2e-5
    [weight] = [tensor for tensor in changed.graph.initializer if tensor.name.endswith(".frames")]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, ::-1].copy(), weight.name))
    assert apart(model, spec, changed, frame) > 1e-2


def test_a_network_that_takes_bytes_is_refused():
    model, spec = stem()
    with pytest.raises(EdgesegError, match="takes uint8 already"):
        frames.take_frames(frames.take_frames(model, spec), frames.frame_spec(spec))
