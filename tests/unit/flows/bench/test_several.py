"""Several boards at once: what one does must not touch the other, and one machine is never measured twice at a time."""

import signal
import threading
import time
from pathlib import Path

import pytest

from edgeseg import devices
from edgeseg.backends.null import BACKEND
from edgeseg.core import manifest
from edgeseg.core.device import Settings
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.manifest import Manifest, Source
from edgeseg.core.spec import ModelSpec
from edgeseg.devices.cpu import CpuDevice
from edgeseg.flows.bench import results, session
from edgeseg.flows.bench.results import End, Round
from edgeseg.flows.bench.session import BenchRequest
from edgeseg.flows.bench.several import bench_at_once, groups

SPEC = ModelSpec("m", 64, 32, "x", "y")


class Board(CpuDevice):
    """A machine that is another one, by what it says; its worker runs here."""

    def __init__(self, request, marks=frozenset()):
        super().__init__()
        self.name, self._marks = request.device, marks
        self.cut = threading.Event()
        self.closed = False

    def marks(self):
        return self._marks

    def interrupt(self):
        self.cut.set()

    def close(self):
        self.closed = True


class LostBoard(Board):
    """Answers, and is gone when something is to be started there."""

    def start(self, items, frames, *, timeout_s):
        raise DeviceUnreachable("it went away", "the ways on")


@pytest.fixture
def requests(tmp_path):
    place = tmp_path / "exports/m/one"
    place.mkdir(parents=True)
    BACKEND.convert(None, SPEC, "fp32", place)
    entry = manifest.entry(place / "model.null")
    manifest.write(place, Manifest("m", "null", "fp32", SPEC, (entry,), Source("w", "npz", "0"), "test", {}))

    def make(*names, **more):
        settings = {"data": "none", "budget_s": 1.5, "out": tmp_path / "results", "timeout_s": 60.0, **more}
        return [BenchRequest((place,), device=name, **settings) for name in names]

    return make


def together(requests, boards, **more):
    """Outcomes by device."""
    found = bench_at_once(requests, say=more.pop("say", print), load=lambda one: boards[one.device], **more)
    return {one.request.device: one for one in found}


class Watch:
    """Who is being measured at a time, by the progress that is told."""

    def __init__(self):
        self.seen = {}
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self, device, what, share):
        now = time.monotonic()
        with self._lock:
            first, _ = self.seen.get(device, (now, now))
            self.seen[device] = (first, now)

    def overlap(self, one, other):
        return min(self.seen[one][1], self.seen[other][1]) - max(self.seen[one][0], self.seen[other][0])


def test_two_machines_are_measured_at_once(requests):
    asked = requests("ssh://pi@a", "ssh://pi@b")
    boards = {one.device: Board(one, frozenset({f"key {one.device}"})) for one in asked}
    watch = Watch()
    found = together(asked, boards, progress=watch)
    for outcome in found.values():
        assert outcome.error is None
        assert outcome.result.summary.rows[0].latency.rounds > 1
    assert found["ssh://pi@a"].result.path != found["ssh://pi@b"].result.path, "each has a file of its own"
    assert watch.overlap("ssh://pi@a", "ssh://pi@b") > 0
    assert all(board.closed for board in boards.values())


def test_two_names_of_one_machine_wait_for_one_another(requests):
    asked = requests("ssh://pi@kitchen", "ssh://pi@192.0.2.7", "ssh://pi@other")
    same = frozenset({"ssh-ed25519 SHA256:same"})
    boards = {
        "ssh://pi@kitchen": Board(asked[0], same | {"/etc/machine-id 1"}),
        "ssh://pi@192.0.2.7": Board(asked[1], same | {"/etc/machine-id 2"}),
        "ssh://pi@other": Board(asked[2], frozenset({"ssh-ed25519 SHA256:other"})),
    }
    watch, told = Watch(), []
    found = together(asked, boards, progress=watch, say=told.append)
    assert all(outcome.result is not None for outcome in found.values())
    assert watch.overlap("ssh://pi@kitchen", "ssh://pi@192.0.2.7") <= 0
    assert len(told) == 1
    assert "is the same machine as" in told[0]


def test_what_has_no_marks_is_held_for_no_other(requests):
    asked = requests("ssh://pi@a", "ssh://pi@b")
    watch = Watch()
    together(asked, {one.device: Board(one) for one in asked}, progress=watch)
    assert watch.overlap("ssh://pi@a", "ssh://pi@b") > 0


def test_a_board_that_is_lost_or_was_never_there_does_not_stop_the_other(requests):
    asked = requests("ssh://pi@a", "ssh://pi@lost", "ssh://pi@never")
    boards = {"ssh://pi@a": Board(asked[0]), "ssh://pi@lost": LostBoard(asked[1])}

    def load(one):
        if one.device == "ssh://pi@never":
            raise DeviceUnreachable("nobody there")
        return boards[one.device]

    found = {one.request.device: one for one in bench_at_once(asked, say=print, load=load)}
    assert found["ssh://pi@a"].result.summary.rows[0].latency.rounds > 1
    lost = found["ssh://pi@lost"].result
    assert lost.unreachable.message == "it went away"
    assert lost.summary.rows[0].failure.reason == "connection lost"
    assert found["ssh://pi@never"].result is None
    assert found["ssh://pi@never"].error.message == "nobody there"


@pytest.mark.parametrize("late", [True, False], ids=["in the middle", "before anything was measured"])
def test_an_interrupt_keeps_all_rows(requests, late):
    asked = requests("ssh://pi@a", "ssh://pi@b", budget_s=600.0)
    boards = {one.device: Board(one) for one in asked}
    timing, once = set(), threading.Event()
    here = threading.main_thread().ident

    def step(device, what, share):
        if what.startswith("timing") or not late:
            timing.add(device)
        if len(timing) == 2 and not once.is_set():
            once.set()
            # A little later, when the main thread waits for outcomes: an interrupt that it got elsewhere would end pytest.
            threading.Timer(0.5, signal.pthread_kill, (here, signal.SIGINT)).start()

    started = time.monotonic()
    found = together(asked, boards, progress=step)
    assert time.monotonic() - started < 300, "not the ten minutes that were asked for"
    for device in boards:
        assert boards[device].cut.is_set(), "what may hang there was cut off"
        assert boards[device].closed
        result = found[device].result
        if late:
            assert result.interrupted
            assert [one.why for one in results.read(result.path).of(End)] == ["interrupted"]
            assert results.read(result.path).of(Round)
        else:
            assert found[device].error is None


def test_a_second_interrupt_does_not_wait(requests):
    asked = requests("ssh://pi@a", "ssh://pi@b", budget_s=600.0)
    hold, waiting = threading.Event(), threading.Barrier(3)

    class Stuck(Board):
        def probe(self):
            waiting.wait(60)
            hold.wait(60)
            return super().probe()

    boards = {one.device: Stuck(one) for one in asked}
    here = threading.main_thread().ident

    def press():
        waiting.wait(60)
        time.sleep(0.5)
        signal.pthread_kill(here, signal.SIGINT)
        for board in boards.values():
            board.cut.wait(60)
        signal.pthread_kill(here, signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        together(asked, boards)
    assert all(board.cut.is_set() for board in boards.values()), "by the first of the two"
    hold.set()


def test_an_error_is_its_own_devices_alone(requests):
    asked = requests("ssh://pi@a", "ssh://pi@b")
    wrong = BenchRequest(**{**asked[1].__dict__, "baseline": "nothing-like-it"})
    found = together([asked[0], wrong], {one.device: Board(one) for one in asked})
    assert found["ssh://pi@a"].result is not None
    assert isinstance(found["ssh://pi@b"].error, EdgesegError)
    assert "unknown baseline" in found["ssh://pi@b"].error.message


def test_two_boards_of_one_kind_go_on_with_a_session_each(requests):
    """They have one folder; without care both would append to the newest file in it."""
    asked = requests("ssh://pi@a", "ssh://pi@b")
    first = together(asked, {one.device: Board(one) for one in asked})
    for outcome in first.values():
        path = outcome.result.path
        path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if '"kind": "end"' not in line))
    again = [BenchRequest(**{**one.__dict__, "resume": True}) for one in asked]
    second = together(again, {one.device: Board(one) for one in asked})
    before = {outcome.result.path for outcome in first.values()}
    assert {outcome.result.path for outcome in second.values()} == before
    assert len(before) == 2
    assert not session._writing


def test_which_run_at_once():
    def made(*names):
        asked = [BenchRequest(device=name, settings=Settings()) for name in names]
        return [[one.device for one in group] for group in groups(asked)]

    assert made("cpu", "pi", "ssh://pi@other") == [["cpu"], ["pi", "ssh://pi@other"]]
    assert made("pi", "cpu", "ssh://pi@other") == [["pi", "ssh://pi@other"], ["cpu"]]
    assert made("browser", "pi") == [["browser"], ["pi"]]
    with pytest.raises(EdgesegError, match="unknown device 'toaster'"):
        made("cpu", "toaster")


def test_lanes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("bench").mkdir()
    Path("bench/devices.toml").write_text('kitchen = "ssh://pi@kitchen.local:2222"\n')
    assert devices.lane("cpu") == devices.lane("browser") == ""
    assert devices.lane("kitchen") == devices.lane("ssh://pi@kitchen.local:2222") == "pi@kitchen.local:2222"
    assert devices.lane("pi") == "pi@raspberrypi.local"
    assert devices.lane("pi-emulated:a53") == devices.lane("pi-emulated:trixie") != ""
    monkeypatch.setattr("edgeseg.devices.pi.probe.board", lambda: "Raspberry Pi 5 Model B Rev 1.0")
    assert devices.lane("pi") == "", "it is this machine"
