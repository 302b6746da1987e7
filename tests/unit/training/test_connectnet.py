from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")

import torch

from edgeseg.architectures import pphumanseg_lite
from edgeseg.core.errors import CheckpointError
from edgeseg.training.connectnet import ConnectNet, load_arrays


def arrays(network):
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}


def test_size_and_names():
    network = ConnectNet()
    state = network.state_dict()
    assert sum(value.numel() for value in state.values()) == 137_466
    assert len(state) == 240
    assert set(pphumanseg_lite.SIGNATURE) <= set(state)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (97, 53)])
def test_gives_what_the_exporter_builds_from_the_same_arrays(width, height):
    import onnxruntime

    torch.manual_seed(3)
    network = ConnectNet()
    network.train()
    for _ in range(3):  # statistics that are not 0 and 1
        network(torch.randn(4, 3, 48, 64))
    network.eval()
    model, spec = pphumanseg_lite.build(arrays(network), size=(width, height))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)
    (expected,) = session.run([spec.output_name], {spec.input_name: image})
    with torch.inference_mode():
        got = network(torch.from_numpy(image)).numpy()
    assert np.abs(got - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())


def test_missing_and_misshapen_tensors_are_named_and_change_nothing():
    network = ConnectNet()
    before = arrays(network)
    given = arrays(ConnectNet())
    name = "block1.0._conv._conv.weight"
    with pytest.raises(CheckpointError, match=r"1 of 240 tensors are missing, first 'block1\.0\._conv"):
        load_arrays(network, {key: value for key, value in given.items() if key != name}, where="x")
    with pytest.raises(CheckpointError, match=r"conv_bn0\._conv\.weight has shape \(1,\)"):
        load_arrays(network, {**given, "conv_bn0._conv.weight": np.zeros(1)}, where="x")
    assert all(np.array_equal(before[key], value) for key, value in arrays(network).items())
    assert load_arrays(network, {**given, "extra": np.zeros(1)}, where="x") == ("extra",)


def test_published_checkpoint_gives_the_published_graphs_output(shared):
    import onnxruntime

    from edgeseg import checkpoints

    folder = shared / "checkpoints" / "pphumanseg_lite_portrait"
    network = ConnectNet()
    weights = checkpoints.read(folder / "model.pdparams").weights
    unused = load_arrays(network, weights, where="model.pdparams")
    assert len(unused) == 100
    network.eval()
    session = onnxruntime.InferenceSession(str(folder / "paddle2onnx.onnx"), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 224, 398)).astype(np.float32)
    (expected,) = session.run(None, {session.get_inputs()[0].name: image})
    with torch.inference_mode():
        got = network(torch.from_numpy(image)).softmax(dim=1).numpy()
    assert np.abs(got - expected).max() < 2e-6
