"""A run is the same run: with the same seed, after a kill, beside a full disk."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")

from edgeseg import checkpoints
from edgeseg.core import atomic
from edgeseg.core.errors import CheckpointError, DataError, EdgesegError
from edgeseg.data.images import write_jpeg, write_png
from edgeseg.data.sample import sample
from edgeseg.training.augmentation import Augmentation
from edgeseg.training.config import TrainConfig
from edgeseg.training.pictures import Pictures, open_mix
from edgeseg.training.state import state_path
from edgeseg.training.trainer import Watch, train

SIZE = (64, 36)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A PaddleSeg list of eight pictures with 0/255 masks."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = []
    for index in range(8):
        image, mask = sample(index, width=96, height=54)
        (folder / f"{index}.jpg").write_bytes(write_jpeg(image))
        (folder / f"{index}.png").write_bytes(write_png(mask * 255))
        lines.append(f"{index}.jpg {index}.png")
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder / "list.txt"


@pytest.fixture
def config(listed, tmp_path):
    return TrainConfig(
        data=f"{listed},sample:6", val=str(listed), out=tmp_path / "out" / "net.safetensors", input_size=SIZE, epochs=3,
        batch=4, warmup_steps=2, validate_every=2, synthetic_share=0.3, threads=1,
        augmentation=Augmentation(background=0),  # spares painting backdrops
    )  # fmt: skip


def curve(result):
    return [replace(record, seconds=0.0) for record in result.epochs]


def weights(path):
    read = checkpoints.read(path)
    assert read.weights is not None
    return read


def equal(one, two):
    return all(np.array_equal(one.weights[name], two.weights[name]) for name in one.weights)


def test_a_run_leaves_a_checkpoint_a_log_and_no_state(config):
    result = train(config)
    read = weights(result.checkpoint)
    assert len(read.weights) == 240
    assert read.metadata["input_size"] == "64x36"
    assert read.metadata["architecture"] == "pphumanseg-lite"
    lines = [json.loads(line) for line in result.log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["miou"] is not None for line in lines] == [False, True, True]
    assert lines[2]["miou"] == pytest.approx(result.final.miou)
    assert set(lines[0]["terms"]) == {"ce", "lovasz", "scl"}
    assert sorted(file.name for file in config.out.parent.iterdir()) == ["net.safetensors", "net.safetensors.log.jsonl"]


def test_same_seed_same_curve_and_another_seed_another(config, tmp_path):
    first = train(config)
    again = train(replace(config, out=tmp_path / "again.safetensors"))
    other = train(replace(config, out=tmp_path / "other.safetensors", seed=1))
    assert curve(first) == curve(again)
    assert equal(weights(first.checkpoint), weights(again.checkpoint))
    assert curve(first) != curve(other)


@pytest.mark.parametrize(("epoch", "step"), [(1, 0), (2, 2)])
def test_a_killed_run_resumes_to_the_same_place(config, tmp_path, epoch, step):
    whole = train(replace(config, out=tmp_path / "whole.safetensors"))
    seen = [0, 0]

    def stop(done, total):
        seen[:] = [seen[0] + (done == 1), done]
        if seen == [epoch, step]:
            raise KeyboardInterrupt

    def stop_between(record):
        if step == 0 and record.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, Watch(step=stop, epoch=stop_between))
    assert not config.out.exists()
    resumed = train(replace(config, resume=True))
    assert curve(resumed) == curve(whole)
    assert equal(weights(resumed.checkpoint), weights(whole.checkpoint))


@pytest.mark.slow
def test_a_process_killed_outright_resumes_to_the_same_place(config, tmp_path):
    whole = train(replace(config, out=tmp_path / "whole.safetensors", epochs=6, augmentation=Augmentation()))
    code = (
        "import sys; from pathlib import Path; "
        "from edgeseg.training.config import TrainConfig; from edgeseg.training.trainer import train; "
        "data, out = sys.argv[1:]; "
        "train(TrainConfig(data=data + ',sample:6', val=data, out=Path(out), input_size=(64, 36), epochs=6, batch=4, "
        "warmup_steps=2, validate_every=2, synthetic_share=0.3, threads=1))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, config.val, str(config.out)], cwd=ROOT)
    try:
        until = time.monotonic() + 120
        while not state_path(config.out).exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    resumed = train(replace(config, epochs=6, resume=True, augmentation=Augmentation()))
    assert curve(resumed) == curve(whole)
    assert equal(weights(resumed.checkpoint), weights(whole.checkpoint))


def test_a_full_disk_leaves_the_last_good_state(config, monkeypatch):
    whole = train(replace(config, out=config.out.with_name("whole.safetensors")))
    real = atomic.write_bytes

    def full(path, content):
        if path == state_path(config.out) and path.exists():  # the second epoch's
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device") as caught:
        train(config)
    assert "--resume" in caught.value.hint
    monkeypatch.undo()
    assert curve(train(replace(config, resume=True))) == curve(whole)


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_learned(config, tmp_path):
    (tmp_path / "file").write_text("")
    steps = []
    with pytest.raises(CheckpointError, match="cannot be written"):
        train(replace(config, out=tmp_path / "file" / "net.npz"), Watch(step=lambda done, total: steps.append(done)))
    assert not steps


def test_a_full_disk_at_the_end_leaves_the_checkpoint_of_the_run_before(config, monkeypatch):
    before = train(config).checkpoint.read_bytes()
    real = atomic.write_bytes

    def full(path, content):
        if path == config.out:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(CheckpointError, match="No space left"):
        train(replace(config, seed=5))
    assert config.out.read_bytes() == before
    monkeypatch.undo()
    resumed = train(replace(config, seed=5, resume=True))
    assert resumed.checkpoint.read_bytes() != before
    assert resumed.final is not None
    assert resumed.final.miou == resumed.epochs[-1].miou


def test_resuming_with_other_settings_or_nothing_is_refused(config):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(replace(config, resume=True))

    def stop(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, Watch(epoch=stop))
    with pytest.raises(CheckpointError, match="a run with seed 0, now it is 7"):
        train(replace(config, resume=True, seed=7))
    state_path(config.out).write_bytes(state_path(config.out).read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged"):
        train(replace(config, resume=True))


def test_init_starts_from_the_given_weights(config, tmp_path):
    start = train(config)
    still = replace(config, out=tmp_path / "still.npz", init=start.checkpoint, learning_rate=0.0, weight_decay=0.0)
    moved, first = weights(train(still).checkpoint), weights(start.checkpoint)
    name = "block2.3._conv._conv.weight"
    assert np.array_equal(moved.weights[name], first.weights[name])


def test_training_learns(config, listed):
    """Eight pictures are learned by heart; a trainer with its sign wrong, or labels shifted, does not."""
    still = Augmentation(
        scale=(1, 1),
        angle_deg=0,
        shift=0,
        brightness=0,
        contrast=0,
        saturation=0,
        tint=0,
        blur=0,
        noise=0,
        background=0,
    )
    longer = replace(config, data=str(listed), epochs=30, val="", loss="ce+scl", batch=8, augmentation=still)
    result = train(longer)
    assert result.final is None
    assert result.epochs[-1].terms["ce"] < 0.6 * result.epochs[0].terms["ce"]


def test_training_never_sees_the_sample_set():
    pictures = Pictures(open_mix("sample:3"), size=(640, 360), seed=0, settings=TrainConfig("", "", None).augmentation)
    shown = [image.tobytes() for image, _ in pictures._synthetic]
    assert not any(sample(index)[0].tobytes() in shown for index in range(3))


def test_an_epoch_shows_all_photos_and_synthetic_ones_in_turn(listed):
    settings = TrainConfig("", "", None).augmentation
    pictures = Pictures(open_mix(f"{listed},sample:6"), size=SIZE, seed=0, settings=settings, synthetic_share=0.2)
    turns = []
    for number in range(3):
        items = pictures.epoch(number)
        assert sorted(place for place, synthetic in items if not synthetic) == list(range(8))
        turns.append(sorted(place for place, synthetic in items if synthetic))
    assert turns == [[0, 1], [2, 3], [4, 5]]
    assert pictures.epoch(0) != pictures.epoch(3)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "it lists no image"),
        ("gone.jpg gone.png\n", "gone.jpg does not exist"),
        ("0.jpg bad.png\n", "holds the code 7"),
        ("0.jpg\n", "no masks to learn from"),
    ],
)
def test_bad_data(config, listed, content, text):
    bad = listed.with_name("bad.txt")
    codes = np.zeros((54, 96), np.uint8)
    codes[3, 3] = 7
    listed.with_name("bad.png").write_bytes(write_png(codes))
    bad.write_text(content)
    with pytest.raises(DataError, match=text):
        train(replace(config, data=str(bad)))


def test_settings_without_sense_are_refused_before_anything_is_done(config):
    for change, text in (
        ({"loss": "ce+scll"}, "unknown term of the loss 'scll'"),
        ({"loss": "scl"}, "no cross-entropy"),
        ({"epochs": 0}, "epochs 0 is below 1"),
        ({"input_size": (16, 16)}, "too small"),
        ({"data": "/no/such/list.txt"}, "there is no data set"),
    ):
        with pytest.raises(EdgesegError, match=text):
            train(replace(config, **change))
    with pytest.raises(CheckpointError, match=r"cannot be written as 'net\.pth'"):
        train(replace(config, out=config.out.with_name("net.pth")))
    assert not config.out.parent.exists()
