"""The masks of the real Arm kernels, and what a run leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core import manifest
from edgeseg.core.job import Command, Item
from edgeseg.core.measurement import Failed, Loaded, Mask
from edgeseg.data.dataset import open_dataset
from edgeseg.devices import cpu
from edgeseg.worker.bench import decode

ROOT = Path(__file__).parents[2]
BACKENDS = ("onnx", "openvino", "tflite")


def edgeseg(folder, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "edgeseg", *map(str, words)], cwd=folder, capture_output=True, text=True,
        timeout=1800, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def exports(tmp_path_factory, root):
    folder = tmp_path_factory.mktemp("exports")
    edgeseg(folder, "export", "--target", ",".join(BACKENDS))
    edgeseg(folder, "quantize", "--int8", "--target", ",".join(BACKENDS), "--calib", "sample:8")
    return folder


def masks(device, folders, frames):
    """Artifact name to its masks, and to what the runtime says it computes in."""
    made, told = {}, {}
    for folder in folders:
        document = manifest.read(folder).manifest
        item = Item(
            folder.name, document.backend, document.files[0].name, document.spec, options=document.runtime_options
        )
        worker = device.start([(item, folder)], [], timeout_s=300)
        try:
            for answer in worker.ask(Command("load", item.key), timeout_s=300):
                assert not isinstance(answer, Failed), answer
                assert isinstance(answer, Loaded)
                told[item.key] = answer.executed
            names = tuple(worker.send_frames(frames))
            answers = list(worker.ask(Command("masks", item.key, frames=names), timeout_s=600))
            made[item.key] = [decode(answer) for answer in answers if isinstance(answer, Mask)]
            assert len(made[item.key]) == len(frames)
        finally:
            worker.close()
    return made, told


@pytest.mark.parametrize("core", ["a72", "a76"])
def test_arm_and_x86_make_the_same_masks_and_leave_nothing(core, start, root, exports):
    folders = [exports / "exports/pphumanseg-lite" / f"{name}-{kind}" for kind in ("fp32", "int8") for name in BACKENDS]
    frames = [sample.image for sample in open_dataset("sample:2", mask_values="", classes=2).stream()]
    here, _ = masks(cpu.DEVICE, folders, frames)
    pi = start(core)
    before = listing(root)
    device = pi.device()
    hello = device.probe()
    assert hello.emulated
    assert hello.device["machine"] == "aarch64"
    assert hello.device["core"] == f"Cortex-{core.upper()}"
    assert hello.device["board"].startswith("Raspberry Pi")
    assert hello.conditions.throttle_flags == 0
    assert hello.governor == "ondemand"
    there, told = masks(device, folders, frames)
    device.close()
    for name in here:
        equal = np.mean([np.mean(one == other) for one, other in zip(here[name], there[name], strict=True)])
        print(f"{core} {name}: {100 * equal:.4f} % of pixels equal, {told[name]}")
        assert any(mask.any() and not mask.all() for mask in there[name]), "masks of one class prove nothing"
        assert equal >= (0.999 if name.endswith("fp32") else 0.995), name
    assert not pi.workers()
    assert listing(root) == before, "nothing is left outside the cache folder"

    again = pi.device()
    masks(again, folders[:1], frames)
    assert set(again.pushed) <= {"pictures"}, "the second run pushes no wheel, no worker and no artifact"
    again.close()


def listing(root):
    """Every file that a user could leave something in, but for the cache folder."""
    places = [root / name for name in ("home", "tmp", "var/tmp", "root", "run")]
    found = {str(path.relative_to(root)) for place in places if place.is_dir() for path in place.rglob("*")}
    return {name for name in found if not name.startswith("home/pi/.cache")}


def test_the_command_line_from_a_bench_to_no_choice(root, exports, tmp_path):
    """Records of a stand-in are stamped, and no time of it is shown, compared or chosen."""
    artifact = exports / "exports/pphumanseg-lite/tflite-fp32"
    done = edgeseg(tmp_path, "bench", artifact, "--device", "pi-emulated", "--data", "sample:1", "--json")
    (document,) = json.loads(done.stdout)["benches"]
    (row,) = document["rows"]
    assert row["emulated"] is True
    assert row["flipped_share"] <= 0.001
    assert [key for key, value in row.items() if key.endswith("_ms") and value is not None] == []
    assert json.loads((tmp_path / document["results"]).parent.joinpath("device.json").read_text())["emulated"] is True
    assert "measured in an emulator" in edgeseg(tmp_path, "pick", "--device", "pi", code=3).stdout
    edgeseg(tmp_path, "report", "--csv", "all.csv", "--html", "all.html")
    assert "masks only" in (tmp_path / "all.html").read_text()
    verified = edgeseg(tmp_path, "verify", artifact, "--device", "pi-emulated", "--data", "sample:1", "--json")
    assert json.loads(verified.stdout)["artifacts"][0]["passed"] is True


def test_clean_leaves_no_trace(start, root):
    pi = start()
    device = pi.device()
    device.probe()
    assert (root / "home/pi/.cache/edgeseg/device").is_dir()
    device.clean()
    device.close()
    assert [path.name for path in (root / "home/pi").iterdir()] == [".ssh"]
