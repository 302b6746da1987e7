"""Forecasts of real artifacts, corrected by measurements that were never made."""

import math

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeseg.backends.null import BACKEND as NULL
from edgeseg.backends.onnx import BACKEND as ONNX
from edgeseg.core import manifest
from edgeseg.core.errors import ArtifactError, EdgesegError
from edgeseg.core.manifest import Manifest, Source
from edgeseg.core.measurement import Conditions, Hello, Slice
from edgeseg.core.spec import ModelSpec
from edgeseg.flows.bench.results import End, Round, Session, Writer
from edgeseg.flows.bench.variants import find, variants
from edgeseg.flows.forecast import ForecastRequest, forecast
from edgeseg.flows.pick import PickRequest, pick

PI4 = {"board": "Raspberry Pi 4 Model B Rev 1.4", "soc": "bcm2711", "core": "Cortex-A72", "cores": "4"}
PI5 = {"board": "Raspberry Pi 5 Model B Rev 1.0", "soc": "bcm2712", "core": "Cortex-A76", "cores": "4"}

COOL = Conditions()


def network(channels):
    """Three convolutions: 3x3 of stride 2, 1x1, and a transposed one back to the input's size."""
    random = np.random.default_rng(channels)
    shapes = {"a": (channels, 3, 3, 3), "b": (channels, channels, 1, 1), "c": (channels, 2, 2, 2)}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["p", "b"], ["q"]),
        helper.make_node("ConvTranspose", ["q", "c"], ["y"], strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 96])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 64, 96])],
        [numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SPEC = ModelSpec("m", 96, 64, "x", "y")


def artifact(exports, name, convert, backend="onnx", precision="fp32"):
    folder = exports / "m" / name
    folder.mkdir(parents=True)
    conversion = convert(folder)
    entries = tuple(manifest.entry(folder / file) for file in conversion.files)
    manifest.write(folder, Manifest("m", backend, precision, SPEC, entries, Source("w", "npz", "0"), "test", {}))
    return folder


@pytest.fixture
def exports(tmp_path):
    for channels in (8, 16, 32, 48, 64, 96):
        artifact(
            tmp_path / "exports", f"net-{channels}", lambda folder, n=channels: ONNX.convert(network(n), SPEC, "fp32", folder)
        )  # fmt: skip
    return tmp_path / "exports"


def ask(tmp_path, **more):
    return forecast(ForecastRequest(exports=tmp_path / "exports", results=tmp_path / "results", **more))


def measure(tmp_path, medians_ms, *, device=PI4, emulated=False, number=0, conditions=COOL):
    """A session as a board would have left it: artifact name to median."""
    mates = variants(find([tmp_path / "exports/m" / name for name in medians_ms], tmp_path), (1,))
    hello = Hello(device, {"python": "3.11"}, emulated=emulated)
    name = f"2026010{1 + number}T000000Z-0000"
    own = tuple(mate.variant for mate in mates)
    session = Session(
        name, f"2026-01-0{1 + number}T00:00:00+00:00", "edgeseg bench", f"pi-{number}", hello, own, own[0].key, 60.0, 0,
        emulated=emulated,
    )  # fmt: skip
    writer = Writer(tmp_path / "results" / session.device / f"{name}.jsonl")
    writer.write(session)
    for index in range(8):
        for variant, ms in zip(own, medians_ms.values(), strict=True):
            runs = (round(1e6 * ms),) * 5
            writer.write(Round(index, index // 2, Slice(variant.key, (), runs, (1,), (1,), conditions)))
    writer.write(End("budget", 60.0))
    writer.close()
    return session.id


def rows(result, board="Raspberry Pi 4"):
    return {one.artifact.partition("/")[2]: one for one in result.forecasts if one.board == board}


def test_every_artifact_on_every_board(exports, tmp_path):
    result = ask(tmp_path, threads=(1, 4))
    assert len(result.forecasts) == 6 * 2 * 3
    for one in result.forecasts:
        assert one.kind == "forecast"
        assert 0 < one.forecast_low_ms < one.forecast_ms < one.forecast_high_ms
        assert not one.calibrated
        assert one.correction == 1.0
    own = [one for one in result.forecasts if one.artifact == "m/net-64" and one.threads == 1]
    assert [one.core for one in own] == ["Cortex-A53", "Cortex-A72", "Cortex-A76"]
    assert own[0].forecast_ms > own[1].forecast_ms > own[2].forecast_ms
    kernels = {cost.kernel: cost.macs for cost in own[0].costs if cost.macs}
    positions = 32 * 48
    assert kernels == {
        "dense": 64 * 27 * positions, "pointwise": 64 * 64 * positions, "transposed": 64 * 2 * 4 * positions,
    }  # fmt: skip
    assert own[0].macs == sum(kernels.values())


def test_measurements_of_the_board_correct_its_forecasts_and_hold_for_those_held_out(exports, tmp_path):
    before = rows(ask(tmp_path))
    random = np.random.default_rng(3)
    truth = {name: one.forecast_ms * 1.6 * math.exp(random.normal(0, 0.08)) for name, one in before.items()}
    known, held_out = list(truth)[::2], list(truth)[1::2]
    session = measure(tmp_path, {name: truth[name] for name in known})
    result = ask(tmp_path)
    after = rows(result)
    for name in held_out:
        one, old = after[name], before[name]
        assert one.measurements == 3
        assert one.sessions == (session,)
        assert one.correction == pytest.approx(1.6, rel=0.15)
        assert one.forecast_low_ms < truth[name] < one.forecast_high_ms, name
        assert one.forecast_high_ms / one.forecast_low_ms < 0.75 * old.forecast_high_ms / old.forecast_low_ms
    for other in ("Raspberry Pi 3", "Raspberry Pi 5"):
        assert not any(one.calibrated for one in rows(result, other).values()), "a board speaks for its own kind only"
    assert not result.unused


@pytest.mark.parametrize(
    "more",
    [
        {"emulated": True},
        {"device": {"cpu": "Some x86", "cores": "8"}},
        {"conditions": Conditions(throttle_flags=0x4, throttled=True)},
    ],
    ids=["emulated", "another device", "throttled"],
)
def test_what_does_not_correct(exports, tmp_path, more):
    measure(tmp_path, {"net-16": 123.0, "net-32": 234.0}, **more)
    assert not any(one.calibrated for one in ask(tmp_path).forecasts)


def test_the_newest_measurement_of_an_artifact_counts_once(exports, tmp_path):
    plain = rows(ask(tmp_path))["net-16"].forecast_ms
    measure(tmp_path, {"net-16": 10 * plain})
    path = tmp_path / "results/pi-0"
    measure(tmp_path, {"net-16": 2 * plain}, number=1)
    text = (tmp_path / "results/pi-1/20260102T000000Z-0000.jsonl").read_text()
    (path / "20260102T000000Z-0000.jsonl").write_text(text.replace('"pi-1"', '"pi-0"'))
    (tmp_path / "results/pi-1/20260102T000000Z-0000.jsonl").unlink()
    one = rows(ask(tmp_path))["net-16"]
    assert one.measurements == 1
    assert one.correction == pytest.approx(2, rel=1e-3)


def test_a_measurement_of_an_artifact_that_is_not_there_is_named(exports, tmp_path):
    measure(tmp_path, {"net-16": 12.0}, device=PI5)
    artifact_file = exports / "m/net-16/model.onnx"
    for path in (artifact_file, exports / "m/net-16/manifest.json"):
        path.unlink()
    result = ask(tmp_path, artifacts=(exports / "m/net-32",))
    assert [one.measurements for one in result.forecasts] == [0, 0, 0]
    (sentence,) = result.unused
    assert "m/net-16@1" in sentence
    assert "no such artifact" in sentence


def test_what_multiplies_nothing_is_refused(tmp_path):
    artifact(tmp_path / "exports", "null-fp32", lambda folder: NULL.convert(None, SPEC, "fp32", folder), backend="null")
    with pytest.raises(ArtifactError, match="m/null-fp32 multiplies nothing"):
        ask(tmp_path)


def test_openvino_computes_int8_in_float_on_arm(tmp_path, need):
    need("openvino", "pip install 'edgeseg[openvino]'")
    from edgeseg.backends.openvino import BACKEND

    def int8(folder):
        return BACKEND.convert(quantised(), SPEC, "int8", folder)

    artifact(tmp_path / "exports", "openvino-int8", int8, backend="openvino", precision="int8")
    artifact(
        tmp_path / "exports", "onnx-int8", lambda folder: ONNX.convert(quantised(), SPEC, "int8", folder), precision="int8"
    )  # fmt: skip
    result = ask(tmp_path)
    executed = {(one.artifact, one.board[-1]): one.executes for one in result.forecasts}
    assert [executed["m/openvino-int8", board] for board in "345"] == ["f32", "f32", "f16"]
    assert [executed["m/onnx-int8", board] for board in "345"] == ["i8", "i8", "i8"]
    by_precision = {
        cost.executes for one in result.forecasts if one.artifact == "m/onnx-int8" for cost in one.costs if cost.macs
    }
    assert by_precision == {"i8", "f32"}, "the transposed convolution stays in float"


def quantised():
    """`network(16)` with its first two layers in integers."""
    from edgeseg.flows.quantize import SPELLINGS
    from edgeseg.graph.simplify import simplify
    from edgeseg.quantization import placement, qdq, ranges

    placed = placement.place(simplify(network(16))[0])
    random = np.random.default_rng(0)
    inputs = [{"x": random.normal(size=(1, 3, 64, 96)).astype(np.float32)} for _ in range(2)]
    seen = ranges.watch(placed, inputs, len(inputs))
    scales = {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}
    return qdq.write(placed, scales, seen, SPELLINGS["onnx"])


def test_nothing_is_kept_and_nothing_can_be_picked(exports, tmp_path):
    ask(tmp_path)
    assert not (tmp_path / "results").exists()
    with pytest.raises(EdgesegError, match="no results"):
        pick(PickRequest((tmp_path / "results",), device="pi", max_ms=1000.0))
