"""What holds for every format: found by content, refused in two lines."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgeseg import checkpoints
from edgeseg.checkpoints import Checkpoint
from edgeseg.core import plugins
from edgeseg.core.errors import CheckpointError
from tests.unit.graph.networks import noise, run


def test_the_known_formats() -> None:
    assert {"npz", "onnx", "pdparams", "safetensors"} <= set(checkpoints.formats())
    for name in checkpoints.formats():
        module = plugins.load("edgeseg.checkpoints", name)
        assert callable(module.sniff)
        assert callable(module.read)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "is none of the known formats"),
        (b"\x00" * 64, "is none of the known formats"),
    ],
)
def test_an_unknown_file_lists_the_known_formats(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=found) as error:
        checkpoints.read(tmp_path / "model.bin")
    assert "npz, onnx" in error.value.hint


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none"):
        checkpoints.read(tmp_path / "none")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no Paddle inference model"):
        checkpoints.read(tmp_path)


def test_the_hash_is_of_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.ones(3, np.float32))
    assert checkpoints.read(tmp_path / "a.npz").sha256 == hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()


def test_weights_or_model_and_not_both() -> None:
    with pytest.raises(AssertionError):
        Checkpoint(Path("x"), "npz", "")


def test_sniffing_never_raises_and_nothing_is_claimed_twice(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    heads = [bytes(random.integers(0, 256, int(size), dtype=np.uint8)) for size in random.integers(0, 200, 200)]
    starts = [
        b"PK\x03\x04",
        b"PK",
        b"\x80\x04",
        b"\x80",
        b"\x08\x07:",
        b"{",
        b'{"base_code":{"magic":"pir"',
        b"\x0a\x05\x08\x00",
    ]
    path = tmp_path / "file"
    for head in heads + [start + more for start in starts for more in heads[:20]]:
        path.write_bytes(head)
        claims = [n for n in checkpoints.formats() if plugins.load("edgeseg.checkpoints", n).sniff(path, head)]
        assert len(claims) <= 1, (claims, head[:20])


def test_all_forms_of_the_real_checkpoint_give_one_mask(shared: Path) -> None:
    from edgeseg.architectures import pphumanseg_lite
    from edgeseg.checkpoints import paddle_inference
    from edgeseg.core import environments
    from edgeseg.graph.pin import pin_input

    folder, image = shared / "checkpoints" / "pphumanseg_lite_portrait", noise(224, 398)
    weights = checkpoints.read(folder / "model.pdparams").weights
    assert weights is not None
    built, spec = pphumanseg_lite.build(weights, size=(398, 224), head="softmax")
    wanted = run(built, image, spec.input_name)
    forms = ["paddle2onnx.onnx", "paddle2onnx_2021_dynamic.onnx"]
    if environments.is_installed(paddle_inference.ENVIRONMENT):
        forms += ["inference_pir", "inference_legacy"]
    for form in forms:
        model = checkpoints.read(folder / form).model
        assert model is not None
        pinned = pin_input(model, (398, 224))
        found = run(pinned, image, "x")
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=form)
        np.testing.assert_array_equal(found.argmax(axis=1), wanted.argmax(axis=1), err_msg=form)
