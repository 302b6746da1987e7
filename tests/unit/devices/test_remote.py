"""Boards behind ssh, with an ssh that runs everything here: what is pushed, what is left, and every fault that needs no network."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from edgeseg import devices
from edgeseg.backends.null import BACKEND
from edgeseg.core import manifest
from edgeseg.core.device import ConnectionLost, WorkerLost
from edgeseg.core.errors import DeviceUnreachable, EdgesegError, MissingDependency
from edgeseg.core.job import Command, Item
from edgeseg.core.manifest import Manifest, Source
from edgeseg.core.measurement import Loaded, Mask, Slice
from edgeseg.core.spec import ModelSpec
from edgeseg.devices import _remote
from edgeseg.flows.bench.session import BenchRequest, bench

SPEC = ModelSpec("m", 64, 32, "x", "y")
FRAME = np.zeros((48, 64, 3), np.uint8)


def artifact(folder: Path, name: str = "one") -> Path:
    place = folder / "m" / name
    place.mkdir(parents=True)
    BACKEND.convert(None, SPEC, "fp32", place)
    entry = manifest.entry(place / "model.null")
    manifest.write(place, Manifest("m", "null", "fp32", SPEC, (entry,), Source("w", "npz", "0"), "test", {}))
    return place


def start(device, tmp_path, timeout_s=60):
    folder = tmp_path / "exports/m/one"
    place = folder if folder.is_dir() else artifact(tmp_path / "exports")
    return device.start([(Item("one", "null", "model.null", SPEC), place)], [FRAME], timeout_s=timeout_s)


def test_a_worker_there_loads_measures_and_makes_masks_and_the_second_run_pushes_nothing(remote, tmp_path):
    device = remote.device()
    assert device.probe().device["cores"]
    worker = start(device, tmp_path)
    (loaded,) = worker.ask(Command("load", "one"), timeout_s=60)
    assert isinstance(loaded, Loaded)
    (measured,) = worker.ask(Command("measure", "one", runs=3), timeout_s=60)
    assert isinstance(measured, Slice)
    assert len(measured.infer_ns) == 3
    names = worker.send_frames([FRAME, FRAME])
    masks = list(worker.ask(Command("masks", "one", frames=tuple(names)), timeout_s=60))
    assert [mask.frame for mask in masks if isinstance(mask, Mask)] == names
    worker.close()
    assert set(device.pushed) == {"wheels", "worker", "artifacts", "frames", "pictures"}
    assert not list((remote.cache / "jobs").iterdir()), "the pictures and the job are gone"
    device.close()

    again = remote.device()
    start(again, tmp_path).close()
    assert dict(again.pushed) == {}
    again.close()


def test_nothing_is_written_outside_the_cache_folder_and_clean_removes_that(remote, tmp_path):
    device = remote.device()
    start(device, tmp_path).close()
    assert [path.name for path in remote.home.iterdir()] == [".cache"]
    assert [path.name for path in (remote.home / ".cache").iterdir()] == ["edgeseg"]
    assert device.clean() == str(remote.cache)
    device.close()
    assert not list(remote.home.iterdir())


def test_a_worker_that_is_not_ended_by_its_host_is_ended_by_clean(remote, tmp_path):
    device = remote.device()
    worker = start(device, tmp_path)
    (job,) = (remote.cache / "jobs").iterdir()
    pid = int((job / "pid").read_text())
    assert Path(f"/proc/{pid}").exists()
    device.clean()
    with pytest.raises(WorkerLost):
        list(worker.ask(Command("load", "one"), timeout_s=30))
    device.close()
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or ") Z " in stat.read_text()


@pytest.mark.parametrize(
    ("told", "message", "hint"),
    [
        ("No ED25519 host key is known for board\nHost key verification failed.", "host key of pi@board is not known", "--trust-new-host"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "another one than before", "ssh-keygen -R 'board'"),
        ("pi@board: Permission denied (publickey).", "accepts none of your ssh keys", "ssh-copy-id pi@board"),
        ("ssh: Could not resolve hostname board: Name or service not known", "Could not resolve hostname", "the ways on"),
        ("ssh: connect to host board port 22: Connection refused", "Connection refused", "the ways on"),
    ],
)  # fmt: skip
def test_a_board_that_is_not_reached(remote, told, message, hint):
    remote.fail(f"debug1: Server host key: ssh-ed25519 SHA256:abc\n{told}\n")
    with pytest.raises(DeviceUnreachable, match=message) as caught:
        remote.device().probe()
    assert hint in caught.value.hint
    assert caught.value.exit_code == 4
    if "host key" in message:
        assert "SHA256:abc" in caught.value.message


def test_ssh_is_strict_and_asks_nothing(remote):
    device = remote.device()
    device.probe()
    device.close()
    opening = next(call for call in remote.calls() if " -f " in call)
    assert "BatchMode=yes" in opening
    assert "StrictHostKeyChecking=yes" in opening
    trusting = remote.device(trust_new_host=True)
    trusting.probe()
    trusting.close()
    assert any("StrictHostKeyChecking=accept-new" in call for call in remote.calls())
    assert not any("StrictHostKeyChecking=no" in call for call in remote.calls())


def no_pythons(remote, answer):
    for name in ("python3", *(f"python3.{minor}" for minor in range(9, 15))):
        (remote.place / "tools" / name).unlink(missing_ok=True)
        remote.tool(name, answer)


def test_a_connection_to_a_jump_host_that_stays_is_not_waited_for(remote):
    jump = remote.place / "jump"
    jump.touch()
    device = remote.device()
    try:
        assert device.marks(), "with its pipes in hand, ssh would be given up after 25 s"
    finally:
        device.close()
        os.kill(int(jump.read_text()), signal.SIGKILL)


def test_no_python(remote):
    no_pythons(remote, "exit 127")
    with pytest.raises(EdgesegError, match=r"has no Python; the worker needs 3\.9 or newer") as caught:
        remote.device().probe()
    assert "apt install python3" in caught.value.hint


def test_a_python_that_is_too_old(remote):
    no_pythons(remote, "echo 3.7")
    with pytest.raises(EdgesegError, match=r"only Python 3\.7; the worker needs 3\.9"):
        remote.device().probe()


def test_a_32_bit_system_says_so_and_tries_what_is_there(remote, tmp_path):
    remote.tool("getconf", 'case "$1" in LONG_BIT) echo 32;; *) echo "glibc 2.36";; esac')
    remote.tool("uname", 'case "$1" in -m) echo armv7l;; *) echo Linux;; esac')
    device = remote.device()
    device.start([(Item("one", "null", "model.null", SPEC), artifact(tmp_path))], [], timeout_s=60).close()
    onnx = Item("two", "onnx", "model.null", SPEC)
    with pytest.raises(WorkerLost, match=r"32-bit system .* for which onnxruntime has no wheels"):
        device.start([(onnx, tmp_path / "m/one")], [], timeout_s=60)
    tflite = Item("three", "tflite", "model.null", SPEC)
    with pytest.raises(WorkerLost, match="LiteRT has no wheels, and numpy and tflite_runtime cannot be imported"):
        device.start([(tflite, tmp_path / "m/one")], [], timeout_s=60)
    device.close()


def test_a_full_disk_is_a_worker_that_does_not_start(remote, tmp_path):
    device = remote.device()
    device.probe()
    remote.tool("tar", 'cat >/dev/null; echo "tar: model.null: Cannot write: No space left on device" >&2; exit 2')
    with pytest.raises(WorkerLost, match="No space left on device"):
        start(device, tmp_path)
    assert not list(remote.cache.glob("artifacts/*")), "nothing half-written is taken for whole"
    device.close()


def test_what_arrives_damaged_is_refused(remote, tmp_path):
    device = remote.device()
    device.probe()
    remote.tool("tar", 'PATH=/usr/bin:/bin; tar "$@"; for last; do :; done; echo rotten > "$last/model.null"')
    with pytest.raises(WorkerLost, match="what arrived is not what was sent"):
        start(device, tmp_path)
    device.close()


def test_a_python_without_ensurepip(remote):
    no_pythons(remote, "echo 3.11; case \"$*\" in *venv*) echo 'ensurepip is not available' >&2; exit 1;; esac")
    with pytest.raises(MissingDependency, match="virtual environment cannot be installed") as caught:
        remote.device(offline=False).probe()
    assert "python3-venv" in caught.value.hint


def test_a_connection_that_breaks_is_not_the_workers_fault(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(_remote, "PATIENCE_S", 0.0)
    device = remote.device()
    worker = start(device, tmp_path)
    remote.fail("Connection to board closed by remote host.\n")
    with pytest.raises(ConnectionLost, match="connection lost"):
        worker.send_frames([FRAME])
    with pytest.raises(DeviceUnreachable, match="closed by remote host"):
        start(device, tmp_path)
    remote.fail("")
    start(device, tmp_path).close()
    device.close()


def test_a_bench_keeps_its_rows_when_the_board_goes_away_and_goes_on_with_resume(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(_remote, "PATIENCE_S", 0.0)
    monkeypatch.setattr(devices, "load", lambda name, settings: remote.device())
    folders = tuple(artifact(tmp_path / "exports", name) for name in ("one", "two"))
    asked = BenchRequest(folders, device="ssh://pi@board", data="none", budget_s=5.0, out=tmp_path / "results")

    def cut(what, share):
        if what.startswith("timing") and share > 0.6:
            remote.cut("Connection to board closed by remote host.\n")

    stopped = bench(asked, progress=cut)
    assert stopped.unreachable is not None
    assert stopped.summary.stopped == "connection lost"
    assert all(row.latency is not None for row in stopped.summary.rows), "what was measured is kept"
    remote.fail("")
    again = bench(BenchRequest(**{**asked.__dict__, "resume": True, "budget_s": 1.0}))
    assert again.path == stopped.path
    assert again.summary.stopped in ("budget", "narrow")
    assert again.summary.rows[0].latency.rounds > stopped.summary.rows[0].latency.rounds


def test_the_governor_is_set_and_put_back(remote, tmp_path, monkeypatch):
    from edgeseg.devices import _governor

    clock = tmp_path / "cpu/cpu0/cpufreq"
    clock.mkdir(parents=True)
    (clock / "scaling_governor").write_text("ondemand\n")
    monkeypatch.setattr(_governor, "_HOLD", _governor._HOLD.replace("/sys/devices/system/cpu", str(tmp_path / "cpu")))
    device = remote.device(governor="performance")
    device.probe()
    assert (clock / "scaling_governor").read_text() == "performance\n"
    device.close()
    assert (clock / "scaling_governor").read_text() == "ondemand\n"


def test_a_machine_is_known_by_its_marks_under_any_name(remote):
    device = remote.device()
    marks = device.marks()
    assert "ssh-ed25519 SHA256:fake" in marks
    machine = Path("/etc/machine-id")
    if machine.is_file() and machine.read_text().strip():
        assert f"/etc/machine-id {machine.read_text().strip()}" in marks
    device.close()
    again = remote.device()
    assert again.marks() == marks
    again.close()


def test_marks_of_a_board_that_is_not_reached(remote):
    remote.fail("ssh: connect to host board port 22: No route to host\n")
    with pytest.raises(DeviceUnreachable, match="No route to host") as caught:
        remote.device().marks()
    assert caught.value.hint == "the ways on"


def test_after_an_interrupt_nothing_is_started_there(remote, tmp_path):
    device = remote.device()
    worker = start(device, tmp_path)
    device.interrupt()
    assert any("-O exit" in call for call in remote.calls()), "what runs over the connection ends with it"
    with pytest.raises(KeyboardInterrupt):
        start(device, tmp_path)
    worker.close()
    assert not list((remote.cache / "jobs").iterdir()), "closing makes a new connection and cleans up"
    device.close()
