"""Two boards at once, Bookworm and Trixie, behind two real sshds; one of them as the way to the other."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgeseg.backends.null import BACKEND
from edgeseg.core import manifest
from edgeseg.core.job import Item
from edgeseg.core.manifest import Manifest, Source
from edgeseg.core.spec import ModelSpec
from edgeseg.devices import _remote
from edgeseg.flows.bench import results, session
from edgeseg.flows.bench.results import Cold
from edgeseg.flows.bench.session import BenchRequest, bench
from edgeseg.flows.bench.several import bench_at_once
from edgeseg.transports.ssh import Address

SPEC = ModelSpec("m", 64, 32, "x", "y")


@pytest.fixture
def both(start, root, trixie):
    """A Pi 4 with Bookworm and a Pi 5 with Trixie."""
    return start("a72"), start("a76", suite="trixie")


def asked(folder: Path, pis, **more) -> dict[str, BenchRequest]:
    """A request a board, for two artifacts of the backend that does nothing."""
    places = []
    for name in ("one", "two"):
        place = folder / "exports/m" / name
        place.mkdir(parents=True)
        BACKEND.convert(None, SPEC, "fp32", place)
        entry = manifest.entry(place / "model.null")
        manifest.write(place, Manifest("m", "null", "fp32", SPEC, (entry,), Source("w", "npz", "0"), "test", {}))
        places.append(place)
    settings = {"artifacts": tuple(places), "data": "none", "out": folder / "results", "timeout_s": 300.0, **more}
    names = [f"ssh://pi@127.0.0.1:{pi.stand_in.port}" for pi in pis]
    return {name: BenchRequest(device=name, **settings) for name in names}


def measure(requests, pis, progress=lambda device, what, share: None, say=print):
    """Outcomes, in the order of `pis`."""
    boards = dict(zip(requests, pis, strict=True))
    found = bench_at_once(
        list(requests.values()), say=say, progress=progress, load=lambda request: boards[request.device].device()
    )
    ended = {one.request.device: one for one in found}
    return [ended[name] for name in requests]


def test_both_are_measured_at_once_each_with_its_own_python(both, tmp_path):
    requests = asked(tmp_path, both)
    seen: dict[str, list[float]] = {name: [] for name in requests}
    old, new = measure(requests, both, progress=lambda device, what, share: seen[device].append(time.monotonic()))
    begun, ended = [times[0] for times in seen.values()], [times[-1] for times in seen.values()]
    assert max(begun) < min(ended), "they overlap"
    versions = []
    for one in (old, new):
        assert one.error is None
        assert one.result.summary.stopped == session.EMULATED
        assert all(row.cold is not None and row.failure is None for row in one.result.summary.rows)
        versions.append(results.read(one.result.path).session.hello.software["python"].rpartition(".")[0])
    assert versions == ["3.11", "3.13"]
    assert old.result.path != new.result.path
    assert not both[0].workers() + both[1].workers()


def test_one_is_lost_and_the_other_goes_on(both, tmp_path, monkeypatch):
    monkeypatch.setattr(_remote, "PATIENCE_S", 3.0)
    requests = asked(tmp_path, both)
    lost_name = next(iter(requests))

    def kill(device, what, share):
        if device == lost_name and what == "first start of m/two@1":
            both[0].stand_in.stop()

    lost, good = measure(requests, both, progress=kill)
    assert lost.result.unreachable is not None
    rows = {row.variant.artifact: row for row in lost.result.summary.rows}
    assert rows["m/one"].cold is not None, "what was measured before is kept"
    assert rows["m/two"].failure.reason == "connection lost"
    assert all(row.cold is not None and row.failure is None for row in good.result.summary.rows)


def test_an_interrupt_keeps_the_rows_of_both_and_leaves_no_worker(both, tmp_path):
    requests = asked(tmp_path, both)
    reached, once = set(), threading.Event()

    def press(device, what, share):
        if what == "first start of m/two@1":
            reached.add(device)
        if len(reached) == 2 and not once.is_set():
            once.set()
            os.kill(os.getpid(), signal.SIGINT)

    for one in measure(requests, both, progress=press):
        assert one.result is not None, one.error
        recording = results.read(one.result.path)
        assert [record.item for record in recording.of(Cold)][:1] == ["m/one@1"]
        assert one.result.interrupted or one.result.summary.stopped == session.EMULATED
    assert once.is_set()
    assert not both[0].workers() + both[1].workers()


def test_two_names_of_one_board_wait_for_one_another(start, root, tmp_path):
    pi = start()
    config = pi.stand_in.config
    config.write_text(f"Host kitchen\n  HostName 127.0.0.1\n  Port {pi.stand_in.port}\n{config.read_text()}")
    requests = asked(tmp_path, [pi])
    (first,) = requests.values()
    other = BenchRequest(**{**first.__dict__, "device": "ssh://pi@kitchen"})
    addresses = {first.device: None, other.device: Address("kitchen", "pi")}
    told: list[str] = []
    found = bench_at_once([first, other], say=told.append, load=lambda one: pi.device(addresses[one.device]))
    ended = list(found)
    assert [one.error for one in ended] == [None, None]
    assert all(one.result.summary.stopped == session.EMULATED for one in ended)
    assert len(told) == 1
    assert "is the same machine as" in told[0]


def test_a_jump_host_in_the_users_configuration(both, tmp_path):
    jump, pi = both
    key = (pi.stand_in.folder / "known_hosts").read_text()
    config = tmp_path / "ssh_config"
    own = f"  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {tmp_path / 'known_hosts'}\n"
    (tmp_path / "known_hosts").write_text(key + (jump.stand_in.folder / "known_hosts").read_text())
    config.write_text(
        f"Host gate\n  HostName 127.0.0.1\n  Port {jump.stand_in.port}\n  User pi\n"
        f"  IdentityFile {jump.stand_in.folder / 'client_key'}\n{own}"
        f"Host board\n  HostName 127.0.0.1\n  Port {pi.stand_in.port}\n  ProxyJump gate\n"
        f"  IdentityFile {pi.stand_in.folder / 'client_key'}\n{own}"
    )
    pi.stand_in.config = config
    device = pi.device(Address("board", "pi"))
    hello = device.probe()
    assert hello.software["python"].startswith("3.13")
    (request,) = asked(tmp_path, [pi]).values()
    worker = device.start(
        [(Item("one", "null", "model.null", SPEC), request.artifacts[0])],
        [np.zeros((8, 8, 3), np.uint8)],
        timeout_s=300,
    )
    worker.close()
    assert device.marks() >= {mark for mark in pi.device().marks() if mark.startswith("ssh-")}, (
        "the board's key, not the gate's"
    )
    device.close()
    assert not pi.workers()


def test_trixie_runs_the_newest_wheels(start, trixie, tmp_path):
    """Python 3.13 and glibc 2.41: the wheels are resolved for them here, and the masks are those of this machine."""
    words = [sys.executable, "-m", "edgeseg", "export", "--target", "tflite,onnx"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=600, env=environment)
    folders = tuple(sorted((tmp_path / "exports/pphumanseg-lite").glob("*-fp32")))
    pi = start("a76", suite="trixie")
    asked = BenchRequest(folders, device="ssh://pi@127.0.0.1", data="sample:1", out=tmp_path / "out", timeout_s=600.0)
    result = bench(asked, device=pi.device())
    assert len(result.summary.rows) == 2
    for row in result.summary.rows:
        assert row.failure is None, row.failure
        assert row.agreement.flipped_share <= 0.001, row.variant.key
