"""onnx2tf, the way out; the tests that start the real program run where it has been installed."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.backends.tflite import BACKEND, fallback
from edgeseg.core import environments
from edgeseg.core.errors import EdgesegError, GraphError, MissingDependency
from edgeseg.core.spec import ModelSpec


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("EDGESEG_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def network(make_model, rand):
    """A convolution; its spec."""
    from onnx import helper

    nodes = [helper.make_node("Conv", ["image", "w"], ["scores"], pads=[1, 1, 1, 1])]
    model = make_model(nodes, {"image": rand(1, 3, 12, 16)}, {"w": rand(2, 3, 3, 3)}, ["scores"])
    return model, ModelSpec("tiny", 16, 12, "image", "scores")


def test_it_is_installed_on_request_only(cache, network, tmp_path):
    with pytest.raises(MissingDependency, match=r"separate onnx2tf environment .* is not installed") as caught:
        BACKEND.convert(*network, "fp32", tmp_path, converter="onnx2tf")
    assert caught.value.hint == "edgeseg doctor --install onnx2tf"


def test_half_precision_is_refused(cache, network, tmp_path):
    with pytest.raises(EdgesegError, match="onnx2tf writes usable files in fp32 only, not fp16"):
        BACKEND.convert(*network, "fp16", tmp_path, converter="onnx2tf")


def written(model, orders):
    """A TFLite file of a model, in the place of onnx2tf's."""
    from edgeseg.backends.tflite.lowering import lower

    return lower(model, orders).builder.serialize()


@pytest.mark.parametrize("output", [(0, 1, 2, 3), (0, 2, 3, 1)])
def test_the_layouts_of_its_file_are_found_by_running_it(runtime, cache, network, tmp_path, monkeypatch, output):
    model, spec = network
    content = written(model, {"image": (0, 2, 3, 1), "scores": output})
    monkeypatch.setattr(environments, "python", lambda environment: "python")
    monkeypatch.setattr(fallback, "run_program", lambda model: content)
    conversion = BACKEND.convert(model, spec, "fp32", tmp_path, converter="onnx2tf")
    assert conversion.spec.input_layout == "nhwc"
    assert conversion.spec.output_layout == ("nhwc" if output == (0, 2, 3, 1) else "nchw")
    assert (tmp_path / "model.tflite").read_bytes() == content


def test_a_wrong_file_of_it_is_not_taken(runtime, cache, network, tmp_path, monkeypatch):
    from onnx import numpy_helper

    model, spec = network
    other = type(model).FromString(model.SerializeToString())
    weights = numpy_helper.to_array(other.graph.initializer[0]) * np.float32(1.01)
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    content = written(other, {})
    monkeypatch.setattr(environments, "python", lambda environment: "python")
    monkeypatch.setattr(fallback, "run_program", lambda model: content)
    with pytest.raises(GraphError, match="onnx2tf's file does not compute what the ONNX model does: output 'scores'"):
        BACKEND.convert(model, spec, "fp32", tmp_path, converter="onnx2tf")
    assert list(tmp_path.iterdir()) == []


def test_the_real_program_converts_through_the_same_check(runtime, network, tmp_path):
    if not environments.is_installed(fallback.ENVIRONMENT):
        pytest.skip(f"onnx2tf is not installed: {fallback.ENVIRONMENT.install_command}")
    conversion = BACKEND.convert(*network, "fp32", tmp_path, converter="onnx2tf")
    assert conversion.files == ("model.tflite",)
