"""Several devices of one command: boards at once, each with a session of its own, and what is this machine by itself.

Two names of one machine wait for one another: whether they are that is asked of the machines themselves.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from edgeseg import devices
from edgeseg.core.device import Device
from edgeseg.core.errors import EdgesegError
from edgeseg.flows.bench.session import BenchRequest, BenchResult, bench

Progress = Callable[[str, str, float], None]
"""Told, from the devices' threads, which device does what, and the share of its whole that is done."""


@runtime_checkable
class Distant(Protocol):
    """A device that is another machine."""

    def marks(self) -> frozenset[str]:
        """What tells the machine from others; two devices that share one are the same machine."""
        ...

    def interrupt(self) -> None:
        """Called from another thread: cut off what runs there."""
        ...


@dataclass
class Outcome:
    """How the measuring of one device ended: with a result, or an error; with neither if it was interrupted too early."""

    request: BenchRequest
    result: BenchResult | None = None
    error: BaseException | None = None


def groups(requests: Sequence[BenchRequest]) -> list[list[BenchRequest]]:
    """Requests in the order in which they are carried out, those of one group at once.

    What is this machine, or comes to it, is alone in its group. All others are in one.

    Raises:
        EdgesegError: A device has no such name.
    """
    made: list[list[BenchRequest]] = []
    beside: list[BenchRequest] | None = None
    for request in requests:
        if not devices.lane(request.device, request.settings):
            made.append([request])
        elif beside is None:
            beside = [request]
            made.append(beside)
        else:
            beside.append(request)
    return made


def bench_at_once(
    requests: Sequence[BenchRequest],
    *,
    say: Callable[[str], None],
    progress: Progress = lambda device, what, share: None,
    load: Callable[[BenchRequest], Device] = lambda request: devices.load(request.device, request.settings),
) -> Iterator[Outcome]:
    """Measure on several other machines at once, and yield each outcome when it is there.

    A device that is lost, or that cannot be measured at all, does not touch the others. An interrupt ends all sessions; what
    they have is kept and yielded. A second one does not wait for them.

    Args:
        requests: What to measure; no two of one device.
        say: Told when a device waits for another one.
        progress: Told what is being done.
        load: Gives the device of a request.
    """
    lanes: dict[str, list[BenchRequest]] = {}
    for request in requests:
        lanes.setdefault(devices.lane(request.device, request.settings), []).append(request)
    done: queue.Queue[Outcome] = queue.Queue()
    crew = _Crew(say, progress, load, done)
    # A thread that hangs in a runtime of the reference must not keep the command from ending.
    threads = iter([threading.Thread(target=crew.run, args=(lane,), daemon=True) for lane in lanes.values()])
    left = len(requests)
    while left:
        try:
            for thread in threads:  # in here, because an interrupt may come as soon as the first one runs
                thread.start()
            outcome = done.get()
        except KeyboardInterrupt:
            if crew.stopping:
                raise
            crew.stop()
            continue
        left -= 1
        yield outcome


@dataclass
class _Crew:
    """What the threads share."""

    say: Callable[[str], None]
    progress: Progress
    load: Callable[[BenchRequest], Device]
    done: queue.Queue[Outcome]
    stopping: bool = False
    _open: list[Device] = field(default_factory=list)
    _turns: _Turns = field(init=False)

    def __post_init__(self) -> None:
        self._turns = _Turns(self.say)

    def run(self, lane: Sequence[BenchRequest]) -> None:
        """The requests of one lane, one after another."""
        for request in lane:
            outcome = Outcome(request)
            try:
                if not self.stopping:
                    outcome.result = self._bench(request)
            except KeyboardInterrupt:
                pass  # too early for a session: there is nothing to keep
            except BaseException as error:  # it is the main thread's to judge
                # What breaks because it was cut off is no news.
                outcome.error = None if self.stopping and isinstance(error, EdgesegError) else error
            self.done.put(outcome)

    def stop(self) -> None:
        """End all sessions."""
        self.stopping = True
        self._turns.wake()
        for device in list(self._open):
            if isinstance(device, Distant):
                device.interrupt()

    def _bench(self, request: BenchRequest) -> BenchResult:
        device = self.load(request)
        self._open.append(device)
        try:
            with contextlib.closing(device):
                marks = device.marks() if isinstance(device, Distant) else frozenset()
                with self._turns.turn(request.device, marks, lambda: self.stopping):
                    return bench(request, device=device, progress=lambda what, share: self._step(request, what, share))
        finally:
            self._open.remove(device)

    def _step(self, request: BenchRequest, what: str, share: float) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.progress(request.device, what, share)


class _Turns:
    """Lets one device after another have a machine."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._held: dict[str, frozenset[str]] = {}
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self, name: str, marks: frozenset[str], stopping: Callable[[], bool]) -> Iterator[None]:
        """Wait until no other device has a machine with one of these marks.

        Raises:
            KeyboardInterrupt: It was stopped while it waited.
        """
        with self._changed:
            told = ""
            while other := next((one for one, its in self._held.items() if its & marks), ""):
                if stopping():
                    raise KeyboardInterrupt
                if other != told:
                    self._say(f"{name} is the same machine as {other}, and waits for it")
                    told = other
                self._changed.wait()
            self._held[name] = marks
        try:
            yield
        finally:
            with self._changed:
                del self._held[name]
                self._changed.notify_all()

    def wake(self) -> None:
        """Have everybody who waits look whether it was stopped."""
        with self._changed:
            self._changed.notify_all()
