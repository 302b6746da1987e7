"""The worker as it travels: the zipapp, in a process, with another Python where there is one."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core import records
from edgeseg.core.errors import EdgesegError
from edgeseg.core.job import Command, Item, Job
from edgeseg.core.measurement import Done, Failed, Hello, Loaded, Mask, Slice, parse
from edgeseg.core.records import RecordError
from edgeseg.core.spec import ModelSpec
from edgeseg.data.predictor import Predictor
from edgeseg.worker import pack
from edgeseg.worker.bench import decode, encode

SPEC = ModelSpec("m", 64, 32, "x", "y")


def talk(python, folder, lines, **environment):
    """Run the zipapp on lines; its answers."""
    worker = pack.pack(folder / "worker.pyz")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, str(worker)],
        input="\n".join(records.to_json(line) for line in lines) + "\n",
        capture_output=True, text=True, timeout=120, cwd=folder, env={**clean, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [parse(line) for line in done.stdout.splitlines()]


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8))
    return str(path)


def lines(frame, *commands):
    item = Item("m/null-fp32@1", "null", "model.null", SPEC)
    return [Job((item,), (frame,)), *commands]


def test_the_zipapp_holds_what_travels_and_nothing_heavy(tmp_path):
    names = zipfile.ZipFile(pack.pack(tmp_path / "worker.pyz")).namelist()
    assert {"__main__.py", "edgeseg/core/job.py", "edgeseg/backends/onnx.py", "edgeseg/data/preprocess.py"} <= set(
        names
    )
    assert not [
        name
        for name in names
        if name.startswith(("edgeseg/flows", "edgeseg/metrics", "edgeseg/cli", "edgeseg/training"))
    ]
    assert "edgeseg/data/dataset.py" not in names
    assert pack.pack(tmp_path / "again.pyz").read_bytes() == (tmp_path / "worker.pyz").read_bytes()


def test_load_measure_masks(tmp_path, frame):
    key = "m/null-fp32@1"
    answers = talk(
        sys.executable, tmp_path,
        lines(frame, Command("load", key), Command("measure", key, runs=5, warmups=2, around=3), Command("masks", key, frames=(frame,))),
    )  # fmt: skip
    hello, loaded, _, measured, _, mask, last = answers
    assert isinstance(hello, Hello)
    assert hello.device["cores"]
    assert isinstance(loaded, Loaded)
    assert loaded.runtime.startswith("numpy ")
    assert isinstance(measured, Slice)
    assert (len(measured.infer_ns), len(measured.warmup_ns), len(measured.prepare_ns), len(measured.finish_ns)) == (
        5,
        2,
        3,
        3,
    )
    assert isinstance(mask, Mask)
    assert decode(mask).shape == (48, 80)
    assert last == Done(key)


def test_what_goes_wrong_is_an_answer(tmp_path, frame):
    answers = talk(
        sys.executable, tmp_path,
        lines(frame, Command("load", "stranger"), Command("measure", "m/null-fp32@1"), Command("load", "m/null-fp32@1")),
    )  # fmt: skip
    reasons = [answer.reason for answer in answers if isinstance(answer, Failed)]
    assert reasons == ["the job has no item stranger", "m/null-fp32@1 is not loaded"]
    assert isinstance(answers[-2], Loaded)


def old_python():
    """An interpreter of Python 3.9 with numpy: named in EDGESEG_PYTHON39, or found on PATH."""
    python = os.environ.get("EDGESEG_PYTHON39") or shutil.which("python3.9")
    if python and subprocess.run([python, "-c", "import numpy"], capture_output=True).returncode == 0:
        return python
    pytest.skip("no Python 3.9 with numpy: EDGESEG_PYTHON39 names one")


def test_python_39_with_numpy_alone(tmp_path, frame):
    key = "m/null-fp32@1"
    answers = talk(
        old_python(), tmp_path,
        lines(frame, Command("load", key), Command("measure", key, runs=3), Command("masks", key, frames=(frame,))),
    )  # fmt: skip
    assert answers[0].software["python"].startswith("3.9")
    assert not [answer for answer in answers if isinstance(answer, Failed)]
    assert [type(answer) for answer in answers] == [Hello, Loaded, Done, Slice, Done, Mask, Done]


def test_the_harness_adds_less_than_20_us_a_sample(tmp_path, frame):
    key = "m/null-fp32@1"
    answers = talk(
        sys.executable, tmp_path, lines(frame, Command("load", key), Command("measure", key, runs=2000, warmups=50))
    )
    (measured,) = (answer for answer in answers if isinstance(answer, Slice))
    assert np.median(measured.infer_ns) < 20_000


def test_a_runtime_that_prints_does_not_disturb_the_records(tmp_path, frame):
    """What a module prints to stdout while it is imported ends up on stderr."""
    (tmp_path / "sitecustomize.py").write_text("")
    worker = pack.pack(tmp_path / "worker.pyz")
    script = (
        "import sys, os; sys.path.insert(0, sys.argv[1]); sys.argv = ['worker']\n"
        "from edgeseg.worker import bench, main\n"
        "real = bench._Ready.once\n"
        "def once(self):\n"
        "    print('chatter'); os.write(1, b'more chatter\\n')\n"
        "    return real(self)\n"
        "bench._Ready.once = once\n"
        "main.main()\n"
    )
    text = "\n".join(records.to_json(line) for line in lines(frame, Command("load", "m/null-fp32@1"))) + "\n"
    done = subprocess.run(
        [sys.executable, "-c", script, str(worker)], input=text, capture_output=True, text=True, timeout=60
    )
    assert [type(parse(line)) for line in done.stdout.splitlines()] == [Hello, Loaded, Done]
    assert "more chatter" in done.stderr


@pytest.mark.parametrize("classes", [2, 5])
def test_masks_survive_the_way(classes):
    spec = ModelSpec("m", 64, 32, "x", "y", classes=tuple("abcde"[:classes]), output_channels=classes)
    mask = np.random.default_rng(0).integers(0, classes, (37, 53)).astype(np.uint8)
    record = encode("k", "f", mask, Predictor(spec, None))
    assert record.bits == (1 if classes == 2 else 8)
    again = parse(records.to_json(record))
    assert np.array_equal(decode(again), mask)


def test_a_damaged_mask_is_refused():
    with pytest.raises(EdgesegError, match="damaged"):
        decode(Mask("k", "f", 2, 2, 8, "AAAA"))
    record = encode(
        "k", "f", np.zeros((4, 4), np.uint8), Predictor(ModelSpec("m", 4, 4, "x", "y", classes=("a", "b", "c")), None)
    )
    with pytest.raises(EdgesegError, match="has 16 pixels, 20 were said"):
        decode(Mask("k", "f", 4, 5, 8, record.data))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Segmentation fault", "not a record: "),
        ('{"kind": "gossip"}', "kind 'gossip'"),
        ("[1]", "kind None"),
        (json.dumps({"kind": "done"}), "'item' is missing"),
    ],
)
def test_what_is_no_record_is_refused(line, reason):
    with pytest.raises(RecordError, match=reason):
        parse(line)


def test_travelling_modules_exist():
    assert importlib.util.find_spec("edgeseg.worker.main")
    assert all(isinstance(path, Path) and path.suffix == ".py" for path in pack.modules())


def test_the_throttling_bits_come_from_vcgencmd_where_the_kernel_has_none(tmp_path, monkeypatch):
    from edgeseg.worker import probe

    program = tmp_path / "vcgencmd"
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(probe, "_FIRMWARE", ())
    monkeypatch.setattr(probe, "_asked", [])
    conditions = probe.now()
    assert conditions.throttle_flags == 0x50005
    assert conditions.throttled is True
    program.unlink()
    assert probe.throttle_flags() == 0x50005, "it is asked once a second at most"
    monkeypatch.setattr(probe, "_asked", [])
    assert probe.throttle_flags() is None


def test_heat_comes_from_androids_thermal_service_where_the_kernel_tells_nothing(tmp_path, monkeypatch):
    from edgeseg.devices._standin_phone import THROTTLING, TOLD
    from edgeseg.worker import probe

    text = tmp_path / "told"
    text.write_text(TOLD[THROTTLING])
    program = tmp_path / "dumpsys"
    program.write_text(f'#!/bin/sh\n[ "$1" = thermalservice ] && cat {text}\n')
    program.chmod(0o755)
    monkeypatch.setattr(probe, "DUMPSYS", program)
    monkeypatch.setattr(probe, "_heat", [])
    assert probe.android_heat() == probe.thermal.Thermal(0, 43.2)
    assert probe.throttled(None) is False
    text.write_text(text.read_text().replace("Thermal Status: 0", "Thermal Status: 2"))
    monkeypatch.setattr(probe, "_heat", [])
    assert probe.throttled(None) is True
    program.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(probe, "_heat", [])
    assert probe.android_heat() == probe.thermal.Thermal(None, None)
