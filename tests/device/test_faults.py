"""What can go wrong on the way to a board and on it: each a labelled row or two lines, never a hang, never a lost row."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgeseg import devices
from edgeseg.backends.null import BACKEND
from edgeseg.core import manifest
from edgeseg.core.device import WorkerLost
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.job import Command, Item
from edgeseg.core.manifest import Manifest, Source
from edgeseg.core.measurement import Loaded
from edgeseg.core.spec import ModelSpec
from edgeseg.devices import _remote, _standin_board
from edgeseg.flows.bench import session
from edgeseg.flows.bench.session import BenchRequest, bench

SPEC = ModelSpec("m", 64, 32, "x", "y")


def artifact(folder: Path, name: str) -> Path:
    """Of the backend that does nothing: what is tried here is the road."""
    place = folder / "m" / name
    place.mkdir(parents=True)
    BACKEND.convert(None, SPEC, "fp32", place)
    entry = manifest.entry(place / "model.null")
    manifest.write(place, Manifest("m", "null", "fp32", SPEC, (entry,), Source("w", "npz", "0"), "test", {}))
    return place


@pytest.fixture
def asked(tmp_path):
    folders = tuple(artifact(tmp_path / "exports", name) for name in ("one", "two"))
    return BenchRequest(folders, device="pi-emulated", data="none", out=tmp_path / "results", timeout_s=120.0)


def test_sshd_is_killed_in_the_middle_and_the_rows_before_it_are_kept(start, asked, monkeypatch):
    monkeypatch.setattr(_remote, "PATIENCE_S", 5.0)
    pi = start()
    monkeypatch.setattr(devices, "load", lambda name, settings: pi.device())

    def kill(what, share):
        if what == "first start of m/two@1":
            pi.stand_in.stop()

    started = time.monotonic()
    stopped = bench(asked, progress=kill)
    assert time.monotonic() - started < 180
    assert stopped.unreachable is not None
    assert "the ways on" in stopped.unreachable.hint
    rows = {row.variant.artifact: row for row in stopped.summary.rows}
    assert rows["m/one"].cold is not None
    assert rows["m/two"].failure.reason == "connection lost"
    assert not pi.workers()

    pi.stand_in.start()
    again = bench(BenchRequest(**{**asked.__dict__, "resume": True}))
    assert again.path == stopped.path
    assert again.summary.stopped == session.EMULATED
    assert all(row.cold is not None and row.failure is None for row in again.summary.rows)


def test_sshd_comes_back_and_the_run_goes_on(start, asked, monkeypatch):
    pi = start()
    monkeypatch.setattr(devices, "load", lambda name, settings: pi.device())
    timers = []

    def kill(what, share):
        if what == "first start of m/two@1" and not timers:
            pi.stand_in.stop()
            timers.append(threading.Timer(4, pi.stand_in.start))
            timers[0].start()

    result = bench(asked, progress=kill)
    timers[0].join()
    assert result.unreachable is None
    assert all(row.cold is not None and row.failure is None for row in result.summary.rows)


def test_a_full_disk(start, asked, monkeypatch):
    extra = 'mkdir -p "$root/home/pi/.cache"; mount -t tmpfs -o size=3m,uid=1000,mode=755 none "$root/home/pi/.cache"'
    pi = start(extra=extra)
    device = pi.device()
    with pytest.raises(EdgesegError, match="No space left on device") as caught:
        device.probe()
    assert "make room" in caught.value.hint
    device.close()


def test_a_read_only_home(start):
    pi = start(extra='mount --bind "$root/home/pi" "$root/home/pi"; mount -o remount,bind,ro "$root/home/pi"')
    device = pi.device()
    with pytest.raises(EdgesegError, match=r"nothing can be written to /home/pi/.cache/edgeseg/device.*Read-only"):
        device.probe()
    device.close()


def test_a_host_key_that_is_another_one_or_none(start):
    pi = start()
    known = pi.stand_in.folder / "known_hosts"
    right = known.read_text()
    kind, _, other = right.partition(" ")[2].partition(" ")
    known.write_text(f"{right.split()[0]} {kind} {other.strip()[:40]}{'A' * 27}{other.strip()[67:]}\n")
    with pytest.raises(DeviceUnreachable, match=r"another one than before \(ssh-ed25519 SHA256:") as caught:
        pi.device(trust_new_host=True).probe()
    assert "ssh-keygen -R" in caught.value.hint
    known.write_text("")
    with pytest.raises(DeviceUnreachable, match=r"is not known \(ssh-ed25519 SHA256:") as caught:
        pi.device().probe()
    assert "--trust-new-host" in caught.value.hint
    device = pi.device(trust_new_host=True)
    device.probe()
    device.close()
    assert any("was accepted" in line and "SHA256:" in line for line in pi.told)
    assert right.split()[2] in known.read_text()


def test_one_at_a_time(start):
    start()
    with pytest.raises(DeviceUnreachable, match="in use by another run"):
        start("a76")


def test_no_python(start):
    pi = start(extra='mount --bind "$board/cpuinfo" "$root/usr/bin/python3.11"')
    with pytest.raises(EdgesegError, match="has no Python; the worker needs"):
        pi.device().probe()


def test_a_python_that_is_too_old(start, tmp_path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3.7\n")
    old.chmod(0o755)
    pi = start(extra=f'mount --bind "{old}" "$root/usr/bin/python3.11"')
    with pytest.raises(EdgesegError, match=r"only Python 3\.7; the worker needs 3\.9"):
        pi.device().probe()


def test_a_worker_that_hangs_is_ended_there_too(start, asked):
    pi = start()
    device = pi.device()
    place = asked.artifacts[0]
    worker = device.start(
        [(Item("one", "null", "model.null", SPEC), place)], [np.zeros((8, 8, 3), np.uint8)], timeout_s=120
    )
    (loaded,) = worker.ask(Command("load", "one"), timeout_s=60)
    assert isinstance(loaded, Loaded)
    assert pi.workers()
    started = time.monotonic()
    with pytest.raises(WorkerLost, match="no answer within 3 s"):
        list(worker.ask(Command("measure", "one", runs=10**9), timeout_s=3))
    assert time.monotonic() - started < 60
    assert not pi.workers()
    device.close()


def test_a_throttling_bit_that_comes_on(start, asked, monkeypatch):
    pi = start()
    monkeypatch.setattr(devices, "load", lambda name, settings: pi.device())

    def heat(what, share):
        if what == "first start of m/two@1":
            pi.stand_in.sys(_standin_board.THROTTLED).write_text("50005\n")

    result = bench(asked, progress=heat)
    for row in result.summary.rows:
        assert [label.name for label in row.labels] == ["throttled"]
        assert "under-voltage, throttled (get_throttled 0x0, then 0x50005)" in row.labels[0].text
        assert row.state == "!"
