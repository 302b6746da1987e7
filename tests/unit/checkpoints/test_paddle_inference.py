"""Paddle inference models: the two files find each other; the converter is only ever run in its own environment."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeseg import checkpoints
from edgeseg.checkpoints import paddle_inference
from edgeseg.checkpoints._pdiparams import check_whole
from edgeseg.core import environments, process
from edgeseg.core.errors import CheckpointError, MissingDependency
from edgeseg.graph.pin import pin_input
from edgeseg.graph.simplify import simplify
from tests.conftest import skip
from tests.unit.graph.networks import network, noise, run

PIR = b'{"base_code":{"magic":"pir","trainable":true,"version":4},"program":{}}'
LEGACY = b"\n\x94\x05\x08\x00\x10" + b"\xff" * 9 + b"\x01\x1a\x22\n\x12batch_norm"
PARAMETERS = bytes(16) + b"\x04\x00\x00\x00\x08\x05\x10\x24" + bytes(144)  # one float32 tensor of 36


def model(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_dot_", ".")).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("names", "given"),
    [
        ({"model_dot_json": PIR, "model_dot_pdiparams": PARAMETERS}, "."),
        ({"model_dot_json": PIR, "model_dot_pdiparams": PARAMETERS}, "model.json"),
        ({"model_dot_json": PIR, "model_dot_pdiparams": PARAMETERS}, "model.pdiparams"),
        ({"net_dot_pdmodel": LEGACY, "net_dot_pdiparams": PARAMETERS}, "."),
        ({"__model__": LEGACY, "__params__": PARAMETERS}, "."),
        ({"__model__": LEGACY, "__params__": PARAMETERS}, "__params__"),
        ({"a_dot_json": PIR, "a_dot_pdiparams": PARAMETERS, "b_dot_pdiparams": PARAMETERS}, "a.json"),
        ({"a_dot_json": PIR, "a_dot_pdiparams": PARAMETERS, "deploy_dot_yaml": b"Deploy:", "x_dot_json": b"{}"}, "."),
    ],
)
def test_the_files_find_each_other(tmp_path: Path, names: dict[str, bytes], given: str) -> None:
    path = model(tmp_path, **names) / given
    assert checkpoints.recognise(path) == "paddle-inference"
    program, parameters = paddle_inference.files(path)
    assert program.read_bytes() in (PIR, LEGACY)
    assert parameters.read_bytes() == PARAMETERS
    assert program.name[0] == parameters.name[0]


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        ({"model_dot_json": PIR}, ".", r"has no parameters \(\.pdiparams\) beside it"),
        ({"model_dot_pdiparams": PARAMETERS}, "model.pdiparams", r"has no program \(\.json or \.pdmodel\) beside it"),
        (
            {"a_dot_json": PIR, "b_dot_pdmodel": LEGACY, "a_dot_pdiparams": PARAMETERS},
            ".",
            r"which of the programs is meant is not clear: a\.json, b\.pdmodel",
        ),
    ],
)
def test_what_is_missing_or_unclear_is_said(tmp_path: Path, names: dict[str, bytes], given: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(model(tmp_path, **names) / given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PARAMETERS + PARAMETERS[:-1], "in tensor 1: 1 bytes are missing"),
        (PARAMETERS[:24], "in tensor 0: 144 bytes are missing"),
        (PARAMETERS + b"\0" * 11, "in tensor 1"),
        (PARAMETERS + b"more than nothing", "in tensor 1: it does not start as a tensor does"),
        (PARAMETERS.replace(b"\x08\x05", b"\x08\x63"), "unknown element type 99"),
        (PARAMETERS[:20] + b"\x08\x05\x10\xff" + b"\xff" * 200, "in tensor 0"),
    ],
)
def test_parameters_that_are_cut_short(tmp_path: Path, content: bytes, message: str) -> None:
    model(tmp_path, model_dot_json=PIR, model_dot_pdiparams=content)
    with pytest.raises(CheckpointError, match=f"is cut short or damaged .*{message}"):
        checkpoints.read(tmp_path)


def test_the_real_parameters_are_whole(shared: Path) -> None:
    for folder in ("inference_pir", "inference_legacy"):
        path = shared / "checkpoints" / "pphumanseg_lite_portrait" / folder / "model.pdiparams"
        assert check_whole(path) == 240


def test_other_json_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"model": "pir"}')
    with pytest.raises(CheckpointError, match="none of the known formats"):
        checkpoints.read(tmp_path / "a.json")


@pytest.fixture
def inference(tmp_path: Path) -> Path:
    return model(tmp_path / "inference", model_dot_json=PIR, model_dot_pdiparams=PARAMETERS)


def test_without_the_environment_nothing_is_installed(
    inference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESEG_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(MissingDependency, match=r"separate paddle environment \(1\.5 GB\) is not installed") as error:
        checkpoints.read(inference)
    assert error.value.hint == "edgeseg doctor --install paddle"
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], process.Finished]], None]:
    """Stands in for the environment: a function that is given the arguments and writes the file."""

    def use(act: Callable[[list[str]], process.Finished]) -> None:
        monkeypatch.setattr(environments, "python", lambda environment: Path("python"))
        monkeypatch.setattr(environments, "run", lambda environment, arguments, **options: act(list(arguments)))

    return use


def test_a_conversion_is_checked_and_described(inference: Path, converter: Callable[..., None]) -> None:
    def act(arguments: list[str]) -> process.Finished:
        program, parameters, out = map(Path, arguments[2:5])
        assert (program.name, program.read_bytes(), parameters.read_bytes()) == ("model.json", PIR, PARAMETERS)
        assert program.stem == parameters.stem
        out.write_bytes(network().SerializeToString())
        return process.Finished(0, "", "")

    converter(act)
    read = checkpoints.read(inference)
    assert (read.format, read.model, read.path) == ("paddle-inference", network(), inference)
    assert read.metadata["converted_by"] == "paddle2onnx==2.1.0"
    assert read.sha256 == checkpoints.read(inference / "model.pdiparams").sha256


@pytest.mark.parametrize(
    ("finished", "message"),
    [
        (process.Finished(-11, "", "C++ Traceback"), "ended by SIGSEGV"),
        (process.Finished(1, "", "x\nInvalidArgumentError: short\n(InvalidArgument) XError"), "cannot convert"),
        (
            process.Finished(1, "", "a\n(NotFound) OpError: no kernel\n  [Hint: b]\nUnboundLocalError: c"),
            "OpError: no kernel",
        ),
        (process.Finished(0, "fine", ""), "cannot convert"),
    ],
)
def test_a_failing_converter_is_two_lines(
    inference: Path, converter: Callable[..., None], finished: process.Finished, message: str
) -> None:
    converter(lambda arguments: finished)
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoints.read(inference)
    assert "\n" not in error.value.message


def test_nan_in_what_comes_back_is_named(inference: Path, converter: Callable[..., None]) -> None:
    def act(arguments: list[str]) -> process.Finished:
        poisoned = network()
        poisoned.graph.initializer[0].raw_data = np.full(54, np.nan, np.float32).tobytes()
        Path(arguments[4]).write_bytes(poisoned.SerializeToString())
        return process.Finished(0, "", "")

    converter(act)
    with pytest.raises(CheckpointError, match="NaN in weight"):
        checkpoints.read(inference)


def test_a_hanging_converter_is_stopped(inference: Path, converter: Callable[..., None]) -> None:
    def act(arguments: list[str]) -> process.Finished:
        raise process.Timeout("python did not end within 600 s and was stopped")

    converter(act)
    with pytest.raises(CheckpointError, match="paddle2onnx: python did not end within 600 s"):
        checkpoints.read(inference)


@pytest.fixture
def paddle() -> None:
    if not environments.is_installed(paddle_inference.ENVIRONMENT):
        skip("paddle", f"the paddle environment is not installed: {paddle_inference.ENVIRONMENT.install_command}")


@pytest.mark.usefixtures("paddle")
@pytest.mark.parametrize("folder", ["inference_pir", "inference_legacy"])
def test_both_real_formats_give_the_probabilities_of_the_export(shared: Path, folder: str) -> None:
    place = shared / "checkpoints" / "pphumanseg_lite_portrait"
    reference = checkpoints.read(place / "paddle2onnx.onnx").model
    read = checkpoints.read(place / folder)
    assert reference is not None
    assert read.model is not None
    image = noise(224, 398)
    wanted = run(reference, image, "x")
    np.testing.assert_allclose(run(read.model, image, "x"), wanted, atol=1e-6)
    simplified, note = simplify(pin_input(read.model, (398, 224)))
    assert len(simplified.graph.node) <= 160, note
    np.testing.assert_allclose(run(simplified, image, "x"), wanted, atol=1e-5)


@pytest.mark.usefixtures("paddle")
@pytest.mark.parametrize("cut", [0.5, 0.99])
@pytest.mark.parametrize("file", ["model.json", "model.pdiparams"])
def test_a_real_model_that_is_cut_short(shared: Path, tmp_path: Path, file: str, cut: float) -> None:
    place = shared / "checkpoints" / "pphumanseg_lite_portrait" / "inference_pir"
    for name in ("model.json", "model.pdiparams"):
        content = (place / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(len(content) * cut)] if name == file else content)
    with pytest.raises(CheckpointError, match=r"cannot convert|cut short or damaged in tensor") as error:
        checkpoints.read(tmp_path)
    assert "\n" not in error.value.message
