import json

import numpy as np
import onnx
import pytest

from edgeseg.architectures import pphumanseg_lite
from edgeseg.backends.onnx import BACKEND, store_weights_as_half


@pytest.fixture
def network(connectnet_weights):
    return pphumanseg_lite.build(connectnet_weights, size=(64, 48))


def test_the_spec_is_in_the_file_for_programs_that_never_heard_of_us(network, tmp_path):
    model, spec = network
    BACKEND.convert(model, spec, "fp32", tmp_path)
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert properties["mean"] == "0.5 0.5 0.5"
    assert properties["color"] == "rgb"
    assert properties["classes"] == "background,person"
    assert json.loads(properties["edgeseg.spec"])["width"] == 64
    assert not network[0].metadata_props, "the caller's model is not changed"


def test_the_same_model_is_the_same_file(network, tmp_path):
    model, spec = network
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        BACKEND.convert(model, spec, "fp32", tmp_path / name)
        contents.append((tmp_path / name / "model.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_half_precision_weights(network):
    model, _ = network
    before = {init.name: onnx.numpy_helper.to_array(init) for init in model.graph.initializer}
    store_weights_as_half(model)
    onnx.checker.check_model(model, full_check=True)
    for init in model.graph.initializer:
        values = onnx.numpy_helper.to_array(init)
        original = before[init.name.removesuffix(".half")]
        if values.dtype == np.float16:
            np.testing.assert_allclose(values, original, rtol=1e-3, atol=1e-6)
        else:
            assert values.size < 64 or values.dtype != np.float32


def test_a_weight_beyond_half_precision_stays_whole(network):
    model, _ = network
    name = "conv_bn0.weight"
    weight = next(init for init in model.graph.initializer if init.name == name)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] = 1e6
    weight.CopyFrom(onnx.numpy_helper.from_array(values, name))
    store_weights_as_half(model)
    kept = {init.name: init.data_type for init in model.graph.initializer}
    assert kept[name] == onnx.TensorProto.FLOAT
