"""Two boards at once, Bookworm and Trixie, behind two real sshds; one of them as the way to the other."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeseg.backends.null import BACKEND
from edgeseg.core import manifest
from edgeseg.core.device import Settings
from edgeseg.core.errors import DeviceUnreachable
from edgeseg.core.manifest import Manifest, Source
from edgeseg.core.spec import ModelSpec
from edgeseg.devices import _remote
from edgeseg.devices._remote import RemoteDevice
from edgeseg.flows.bench import results, session
from edgeseg.flows.bench.results import Cold
from edgeseg.flows.bench.session import BenchRequest
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


def test_both_are_measured_at_once_each_with_the_wheels_of_its_python(both, tmp_path):
    """Python 3.11 with glibc 2.36 and 3.13 with 2.41: wheels are resolved for each here, and the masks are this machine's."""
    words = [sys.executable, "-m", "edgeseg", "export", "--target", "tflite"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=600, env=environment)
    (folder,) = (tmp_path / "exports/pphumanseg-lite").glob("tflite-fp32")
    requests = asked(tmp_path / "null", both, artifacts=(folder,), data="sample:1", timeout_s=900.0)
    seen: dict[str, list[float]] = {name: [] for name in requests}
    old, new = measure(requests, both, progress=lambda device, what, share: seen[device].append(time.monotonic()))
    begun, ended = [times[0] for times in seen.values()], [times[-1] for times in seen.values()]
    assert max(begun) < min(ended), "they overlap"
    versions = []
    for one in (old, new):
        assert one.error is None
        assert one.result.summary.stopped == session.EMULATED
        (row,) = one.result.summary.rows
        assert row.failure is None, row.failure
        assert row.agreement.flipped_share <= 0.001
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


def test_two_names_of_one_board_have_the_same_marks(both):
    pi, other = both
    config = pi.stand_in.config
    config.write_text(f"Host kitchen\n  HostName 127.0.0.1\n  Port {pi.stand_in.port}\n{config.read_text()}")
    found = []
    for device in (pi.device(), pi.device(Address("kitchen", "pi")), other.device()):
        found.append(device.marks())
        device.close()
    assert found[0] == found[1]
    assert any("SHA256:" in mark for mark in found[0])
    assert not found[0] & found[2]


def behind(both, folder):
    """The second board with a configuration for ssh in which the first is the way to it."""
    jump, pi = both
    own = f"  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {folder / 'known_hosts'}\n"
    (folder / "known_hosts").write_text("".join((one.stand_in.folder / "known_hosts").read_text() for one in both))
    config = folder / "ssh_config"
    config.write_text(
        f"Host gate\n  HostName 127.0.0.1\n  Port {jump.stand_in.port}\n  User pi\n"
        f"  IdentityFile {jump.stand_in.folder / 'client_key'}\n{own}"
        f"Host board\n  HostName 127.0.0.1\n  Port {pi.stand_in.port}\n  ProxyJump gate\n"
        f"  IdentityFile {pi.stand_in.folder / 'client_key'}\n{own}"
    )
    return pi, config


def test_a_jump_host_in_the_users_configuration(both, tmp_path):
    pi, config = behind(both, tmp_path)
    device = RemoteDevice("board", Address("board", "pi"), Settings(offline=True), config=config)
    hello = device.probe()
    assert hello.software["python"].startswith("3.13")
    direct = pi.device()
    assert device.marks() == direct.marks(), "the board's key, not the gate's"
    direct.close()
    device.close()
    assert not pi.workers()


def test_a_jump_host_with_an_unknown_key_is_refused(both, tmp_path):
    pi, config = behind(both, tmp_path)
    known = tmp_path / "known_hosts"
    known.write_text("".join(line for line in known.read_text().splitlines(True) if f":{pi.stand_in.port} " in line))
    with pytest.raises(DeviceUnreachable, match=r"is not known \(ssh-ed25519 SHA256:"):
        RemoteDevice("board", Address("board", "pi"), Settings(offline=True), config=config).probe()
