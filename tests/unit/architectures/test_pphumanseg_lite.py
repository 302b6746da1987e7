import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeseg.architectures import pphumanseg_lite, recognise
from edgeseg.core.errors import CheckpointError, EdgesegError, GraphError


def run(model, size, seed=0):
    picture = np.random.default_rng(seed).normal(size=(1, 3, size[1], size[0])).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": picture})[0]


def test_the_parameters_are_the_published_ones(connectnet_weights):
    parameters = pphumanseg_lite.parameters()
    assert len(parameters) == 240
    assert sum(int(np.prod(shape)) for shape in parameters.values()) == 137_466
    assert {name: value.shape for name, value in connectnet_weights.items()} == parameters


@pytest.mark.parametrize("size", [(398, 224), (192, 192), (256, 144), (17, 33), (399, 225), (16, 16)])
def test_any_size(connectnet_weights, size):
    model, spec = pphumanseg_lite.build(connectnet_weights, size=size)
    assert (spec.width, spec.height) == size
    logits = run(model, size)
    assert logits.shape == (1, 2, size[1], size[0])
    assert logits.min() >= 0  # the last convolution ends in ReLU
    assert np.ptp(logits) > 0


def test_heads_agree(connectnet_weights):
    logits, softmax, argmax = (
        run(pphumanseg_lite.build(connectnet_weights, size=(64, 48), head=head)[0], (64, 48))
        for head in pphumanseg_lite.HEADS
    )
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(softmax, odds / odds.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(argmax, logits.argmax(axis=1))


def test_specs_say_what_comes_out(connectnet_weights):
    kinds = {
        head: pphumanseg_lite.build(connectnet_weights, size=(32, 32), head=head)[1] for head in pphumanseg_lite.HEADS
    }
    assert [kinds[head].output_kind for head in pphumanseg_lite.HEADS] == ["logits", "probabilities", "labels"]
    assert kinds["argmax"].output_layout == "nhw"


def test_no_batch_norm_is_left_and_no_unused_weight(connectnet_weights):
    model, _ = pphumanseg_lite.build(connectnet_weights)
    used = {name for node in model.graph.node for name in node.input}
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert {initializer.name for initializer in model.graph.initializer} <= used
    onnx.checker.check_model(model, full_check=True)


def test_folding_a_batch_norm_is_exact(connectnet_weights):
    """One convolution of the graph against convolution and batch norm in float64."""
    model, _ = pphumanseg_lite.build(connectnet_weights, size=(32, 32))
    folded = {init.name: onnx.numpy_helper.to_array(init) for init in model.graph.initializer}
    part = "conv_bn1"
    weight = connectnet_weights[f"{part}._conv.weight"].astype(np.float64)
    gamma, beta, mean, variance = (
        connectnet_weights[f"{part}._batch_norm.{name}"].astype(np.float64)
        for name in ("weight", "bias", "_mean", "_variance")
    )
    x = np.random.default_rng(0).normal(size=36)
    expected = (weight[:, :, 0, 0] @ x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(folded[f"{part}.weight"][:, :, 0, 0] @ x + folded[f"{part}.bias"], expected, rtol=1e-5)


def test_a_missing_tensor_is_named(connectnet_weights):
    weights = dict(connectnet_weights)
    del weights["block1.2._conv._conv.weight"]
    with pytest.raises(CheckpointError, match=r"block1\.2\._conv\._conv\.weight \[36, 36, 1, 1\] is missing"):
        pphumanseg_lite.build(weights)


def test_a_misshapen_tensor_is_named(connectnet_weights):
    weights = {**connectnet_weights, "conv_bn1._conv.weight": np.zeros((18, 36, 3, 3), np.float32)}
    with pytest.raises(
        CheckpointError, match=r"conv_bn1\._conv\.weight is \[18, 36, 3, 3\], expected \[18, 36, 1, 1\]"
    ):
        pphumanseg_lite.build(weights)


def test_a_negative_variance_is_named(connectnet_weights):
    weights = {**connectnet_weights, "conv_bn0._batch_norm._variance": np.full(36, -1, np.float32)}
    with pytest.raises(CheckpointError, match=r"conv_bn0\._batch_norm\._variance has values below 0"):
        pphumanseg_lite.build(weights)


def test_bad_requests(connectnet_weights):
    with pytest.raises(GraphError, match="8x400 is too small"):
        pphumanseg_lite.build(connectnet_weights, size=(8, 400))
    with pytest.raises(EdgesegError, match="unknown head 'softmin'"):
        pphumanseg_lite.build(connectnet_weights, head="softmin")


def test_recognised_by_its_parameters(connectnet_weights):
    assert recognise(connectnet_weights) == "pphumanseg-lite"
    with pytest.raises(CheckpointError, match=r"the 1 tensors .*encoder\.weight.* no architecture") as caught:
        recognise({"encoder.weight"})
    assert "pphumanseg-lite" in caught.value.hint
