"""Training through the command: a checkpoint that the other commands take, and what cannot be trained on."""

import numpy as np
import pytest

from edgeseg.assets import bundled

SMALL = ("--input-size", "64x36", "--epochs", "1", "--batch", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def torch(need):
    need("torch", "pip install 'edgeseg[train]'")


def test_a_finetuned_checkpoint_is_exported(edgeseg, tmp_path):
    words = ("--input-size", "128x72", "--epochs", "1", "--batch", "2", "--threads", "1", "--learning-rate", "1e-4")
    done = edgeseg(
        "train", "--data", "sample:4", "--val", "sample:2", "--init", bundled(), "--out", "tuned.safetensors",
        *words, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["final"]["images"] == 2
    exported = edgeseg("export", "tuned.safetensors", "--target", "onnx")
    assert exported.code == 0, exported.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--data", "empty.txt", "--out", "net.npz"), "empty.txt"),
        (("--data", "list.txt", "--out", "net.npz"), "gone.jpg"),
        (("--data", "sample:4", "--out", "net.pdparams"), "--out *.safetensors"),
        (("--data", "sample:4", "--out", "net.npz", "--init", "gone.npz"), "gone.npz"),
        (("--data", "sample:4", "--out", "net.npz", "--resume"), "nothing to resume"),
        (("--data", "class.txt", "--out", "net.npz"), "mask.png"),
    ],
)
def test_what_cannot_be_trained_is_refused(edgeseg, tmp_path, words, told):
    import cv2

    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "list.txt").write_text("gone.jpg gone.png\n")
    (tmp_path / "class.txt").write_text("picture.png mask.png\n")
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((36, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((36, 64), 7, np.uint8))
    edgeseg("train", *words, *SMALL).refused(told)
    assert not list(tmp_path.glob("net*"))
