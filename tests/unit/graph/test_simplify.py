"""Clean-up computes the same; what it cannot take stays as it was, with the reason."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeseg.core import process
from edgeseg.graph import simplify as module
from edgeseg.graph.pin import is_static, pin_input
from edgeseg.graph.simplify import simplify
from tests.unit.graph.networks import network, noise, run


def test_shape_arithmetic_goes_and_the_values_stay() -> None:
    pinned = pin_input(network(), (40, 24))
    simplified, note = simplify(pinned)
    assert [node.op_type for node in simplified.graph.node] == ["Conv", "Relu", "Resize"]
    assert note.startswith("onnxsim ")
    assert note.endswith(": 8 -> 3 nodes")
    assert is_static(simplified)
    np.testing.assert_allclose(run(simplified, noise(24, 40)), run(pinned, noise(24, 40)), atol=1e-6)


def with_child(monkeypatch: pytest.MonkeyPatch, code: str) -> tuple[onnx.ModelProto, onnx.ModelProto, str]:
    monkeypatch.setattr(module, "_CHILD", code)
    model = pin_input(network(), (40, 24))
    return (model, *simplify(model, timeout_s=20))


def test_a_crash_of_the_tool_leaves_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    model, result, note = with_child(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert result is model
    assert note.endswith("was not applied: ended by SIGSEGV")


def test_an_exception_of_the_tool_leaves_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    model, result, note = with_child(monkeypatch, "raise ValueError('cannot fold this')")
    assert result is model
    assert note.endswith("was not applied: ValueError: cannot fold this")


def test_a_hanging_tool_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHILD", "import time; time.sleep(60)")
    model = network(("n", 3, 24, 40))
    result, note = simplify(model, timeout_s=0.5)
    assert result is model
    assert "was not applied: python" in note
    assert "did not end within 0.5 s" in note


def test_another_shape_of_an_input_is_noticed() -> None:
    before, after = network(("n", 3, 24, 40)), network(("n", 3, 24, 41))
    assert module._interface_change(before, before) == ""
    assert (
        module._interface_change(before, after) == "the shape of the input image from [0, 3, 24, 40] to [0, 3, 24, 41]"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("m.graph.output[0].name = m.graph.node[-1].output[0] = 'other'", "it changed the outputs from"),
        ("m.graph.node[0].op_type = 'NoSuchOperator'", "NoSuchOperator"),
        ("m.graph.node.pop(0)", "was not applied"),
    ],
)
def test_a_result_that_is_not_the_same_model_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch, change: str, reason: str
) -> None:
    code = f"import sys, onnx\nm = onnx.load(sys.argv[1])\n{change}\nonnx.save(m, sys.argv[2])"
    model, result, note = with_child(monkeypatch, code)
    assert result is model
    assert reason in note


def test_garbage_from_the_tool_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    model, result, note = with_child(monkeypatch, "import sys; open(sys.argv[2], 'wb').write(bytes(range(256)))")
    assert result is model
    assert "was not applied" in note


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    real = process.run
    seen: list[bool] = []

    def watched(command: list[str], **options: object) -> process.Finished:
        seen.append(any(tmp_path.iterdir()))
        return real(command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", watched)
    simplify(network(("n", 3, 24, 40)))
    assert seen == [True]
    assert list(tmp_path.iterdir()) == []


def test_the_export_of_2021_comes_down_to_a_clean_size(shared: Path) -> None:
    from edgeseg.checkpoints import read

    folder = shared / "checkpoints" / "pphumanseg_lite_portrait"
    old = read(folder / "paddle2onnx_2021_dynamic.onnx").model
    new = read(folder / "paddle2onnx.onnx").model
    assert old is not None
    assert new is not None
    assert len(old.graph.node) == 799
    pinned = pin_input(old, (398, 224))
    simplified, note = simplify(pinned)
    assert len(simplified.graph.node) <= 160, note
    assert is_static(simplified)
    image = noise(224, 398)
    np.testing.assert_allclose(run(simplified, image, "x"), run(new, image, "x"), atol=1e-5)
    np.testing.assert_allclose(run(pinned, image, "x"), run(new, image, "x"), atol=1e-6)
