"""The tuner, on a device whose latencies are made up: it finds what is faster, and is not fooled by luck."""

from __future__ import annotations

import random

import onnx
import pytest

from edgeseg import backends
from edgeseg.core import records
from edgeseg.core.device import ConnectionLost, WorkerLost
from edgeseg.core.errors import EdgesegError
from edgeseg.core.measurement import Failed, Hello, Loaded, Slice
from edgeseg.flows import tune
from tests.unit.graph.rewrites.sketch import Sketch, ops, spec


class MadeUpDevice:
    """Answers a latency for each graph, with noise; `cost` is told which operators the graph has."""

    name = "cpu"

    def __init__(self, cost, noise=0.02):
        self.cost, self.noise, self.random = cost, noise, random.Random(0)

    def probe(self):
        return Hello({"cpu": "made up"}, {})

    def start(self, items, frames, *, timeout_s):
        return MadeUpWorker(self, {item.key: onnx.load(folder / item.file) for item, folder in items})


class MadeUpWorker:
    start_ns = 1

    def __init__(self, device, models):
        self.device, self.models, self.hello = device, models, device.probe()

    closed = False

    def ask(self, command, *, timeout_s):
        assert not self.closed
        if command.do == "load":
            yield Loaded(command.item, "made up", 0, 1, 1)
            return
        mean = self.device.cost(ops(self.models[command.item]))
        if mean == "crash":
            self.closed = True
            raise WorkerLost("the worker ended with signal 11")
        if mean is None:
            yield Failed(command.item, "the runtime does not like it")
            return
        each = tuple(int(1e6 * mean * self.device.random.gauss(1, self.device.noise)) for _ in range(command.runs))
        yield Slice(command.item, (), each, (), ())

    def send_frames(self, frames):
        return []

    def close(self):
        self.closed = True


def network():
    """A shuffle, a concatenation that may be split, and a head of two logits."""
    sketch = Sketch()
    x = sketch.shuffle(sketch.concat(sketch.conv("image", 6), sketch.conv("image", 6)), 12, 10)
    x = sketch.resize(sketch.conv(sketch.conv(x, 16), 2), 24, 20)
    return sketch.model(x), spec(x, shape=(20, 24))


def tuned(cost, **more):
    model, its_spec = network()
    return tune.tune(model, its_spec, backends.load("onnx"), "fp32", MadeUpDevice(cost, **more))


def test_what_is_slower_is_dropped_and_what_is_faster_is_taken():
    def cost(kinds):
        return 10 + 5 * ("Pad" in kinds) - 3 * ("MatMul" in kinds) - ("Transpose" not in kinds)

    found = tuned(cost)
    assert "difference-head" not in found.rewrites
    assert {"matmul-resize", "unshuffle"} <= set(found.rewrites)
    assert found.against_plain.ratio == pytest.approx(0.6, rel=0.05)
    assert found.against_plain.against == ()


def test_without_a_difference_the_graph_stays_plain():
    found = tuned(lambda kinds: 10)
    assert found.rewrites == ()
    assert found.against_plain == tune.Measured((), (), 1.0, 1.0, 1.0)


def test_what_the_device_cannot_run_is_not_chosen():
    found = tuned(lambda kinds: None if "MatMul" in kinds else 10 - 2 * ("Transpose" not in kinds))
    assert "matmul-resize" not in found.rewrites
    assert "unshuffle" in found.rewrites


def test_what_crashes_the_worker_is_left_out_with_a_word_and_the_tuning_goes_on():
    told = []
    model, its_spec = network()
    device = MadeUpDevice(lambda kinds: "crash" if "MatMul" in kinds else 10 - 2 * ("Transpose" not in kinds))
    found = tune.tune(model, its_spec, backends.load("onnx"), "fp32", device, say=told.append)
    assert "matmul-resize" not in found.rewrites
    assert "unshuffle" in found.rewrites
    assert found.against_plain.ratio == pytest.approx(0.8, rel=0.05)
    assert any("matmul-resize is left out: the worker ended with signal 11" in line for line in told)


def test_a_plain_graph_that_crashes_ends_it():
    with pytest.raises(EdgesegError, match="onnx-fp32 cannot be tuned"):
        tuned(lambda kinds: "crash")


def test_a_lost_connection_is_no_candidates_fault(monkeypatch):
    def ask(self, command, *, timeout_s):
        raise ConnectionLost("the cable was pulled")

    monkeypatch.setattr(MadeUpWorker, "ask", ask)
    with pytest.raises(ConnectionLost):
        tuned(lambda kinds: 10)


def test_a_network_that_cannot_be_measured_at_all_is_an_error():
    with pytest.raises(EdgesegError, match="onnx-fp32 cannot be tuned"):
        tuned(lambda kinds: None)


def test_a_tuning_is_replayed_for_its_own_target_only(tmp_path):
    found = tuned(lambda kinds: 10 - 2 * ("Transpose" not in kinds))
    path = tmp_path / tune.FILE
    path.write_text(records.to_json(found))
    assert tune.read(path, ["onnx-fp32"]) == found.rewrites
    with pytest.raises(EdgesegError, match="measured for onnx-fp32, not for openvino-fp32"):
        tune.read(path, ["openvino-fp32"])
    with pytest.raises(EdgesegError, match="cannot be read"):
        tune.read(tmp_path / "missing.json", ["onnx-fp32"])
