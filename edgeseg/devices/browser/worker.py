"""A worker that is a page: the same job, commands and records, fetched and posted by the page itself.

A phone is untrusted input. Every record is parsed strictly and has to fit what was asked; texts are stripped of what a
terminal or a path could stumble over.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from edgeseg.core import records
from edgeseg.core.arrays import Array
from edgeseg.core.device import WorkerLost
from edgeseg.core.job import Command, Item, Job
from edgeseg.core.measurement import Answer, Done, Failed, Hello, Loaded, Mask, Slice, parse
from edgeseg.core.records import RecordError
from edgeseg.transports.visitor import Reloaded, Visitor, VisitorGone, VisitorSilent

RELOADS = 2
"""A page may be loaded again so often while one worker lives; more is a page that crashes."""
MAX_NS = 10**12
"""No run takes longer: a quarter of an hour."""
MAX_TEXT = 300
MAX_FACT = 80
"""Of what a device says of itself: some of it becomes the name of a folder."""

_numbers = itertools.count(1)
T = TypeVar("T")


@dataclass(frozen=True)
class Shelf:
    """Where files for the page are put: `offer` answers a path on the server, `withdraw` takes it away."""

    offer: Callable[[bytes], str]
    withdraw: Callable[[str], None]


class BrowserWorker:
    """See the module.

    Args:
        visitor: The page.
        shelf: Where files are put for it.
        items: What it measures; `Item.file` is the name of a file in the folder beside it.
        frames: Pictures for the timed runs.
        timeout_s: How long the start may take.

    Raises:
        WorkerLost: The page does not answer.
    """

    def __init__(
        self,
        visitor: Visitor,
        shelf: Shelf,
        items: Sequence[tuple[Item, Path]],
        frames: Sequence[Array],
        *,
        timeout_s: float,
    ) -> None:
        self._visitor, self._shelf = visitor, shelf
        self._name = next(_numbers)
        self._files: list[str] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._reloads = 0
        self._loaded: list[str] = []
        placed = tuple(replace(item, file=self._put((folder / item.file).read_bytes())) for item, folder in items)
        self._job = Job(placed, tuple(self._put(_raw(frame)) for frame in frames))
        started = time.perf_counter_ns()
        try:
            self.hello = self._patiently(lambda: self._begin(timeout_s))
        except BaseException:
            self.close()
            raise
        self.start_ns = time.perf_counter_ns() - started

    def ask(self, command: Command, *, timeout_s: float) -> Iterator[Answer]:
        """See `edgeseg.core.device.Worker.ask`; a page that was loaded again is told everything anew."""

        def exchange() -> list[Answer]:
            if self._life != self._visitor.life:
                self._begin_again(timeout_s)
            return self._exchange({"command": records.to_dict(command)}, timeout_s)

        answers = [self._checked(command, answer) for answer in self._patiently(exchange)]
        self._remember(command)
        return iter(answers)

    def send_frames(self, frames: Sequence[Array]) -> list[str]:
        """See `edgeseg.core.device.Worker.send_frames`."""
        for old in self._shapes:
            self._shelf.withdraw(old)
            self._files.remove(old)
        names = [self._put(_raw(frame)) for frame in frames]
        self._shapes = {name: frame.shape for name, frame in zip(names, frames, strict=True)}
        return names

    def close(self) -> None:
        """See `edgeseg.core.device.Worker.close`."""
        for path in self._files:
            self._shelf.withdraw(path)
        self._files.clear()
        self._shapes.clear()
        if not self._visitor.gone:
            self._visitor.send({"worker": self._name, "id": 0, "stop": True})

    def _patiently(self, exchange: Callable[[], T]) -> T:
        """An exchange with the page, once more after each time that it was loaded again meanwhile.

        Raises:
            WorkerLost: The page is gone, silent, or loaded again too often.
        """
        while True:
            try:
                return exchange()
            except Reloaded as error:
                self._reloads += 1
                if self._reloads > RELOADS:
                    self.close()
                    raise WorkerLost(f"the page was loaded again {self._reloads} times (out of memory?)") from error
            except (VisitorGone, VisitorSilent) as error:
                self.close()
                raise WorkerLost(error.message) from error

    def _begin(self, timeout_s: float) -> Hello:
        self._life = self._visitor.life
        answers = self._exchange({"job": records.to_dict(self._job)}, timeout_s)
        if len(answers) != 1 or not isinstance(answers[0], Hello):
            raise WorkerLost("the page began with something else than a greeting")
        return readable_hello(answers[0])

    def _begin_again(self, timeout_s: float) -> None:
        self._begin(timeout_s)
        for key in self._loaded:
            self._exchange({"command": records.to_dict(Command("load", key))}, timeout_s)

    def _exchange(self, order: dict[str, object], timeout_s: float) -> list[Answer]:
        """Give an order and collect its answers, without `Done`."""
        if self._visitor.gone:
            raise VisitorGone("the page is gone")
        number = next(_numbers)
        self._visitor.send({"worker": self._name, "id": number, **order})
        until = time.monotonic() + timeout_s
        found: list[Answer] = []
        while True:
            body = self._visitor.receive(life=self._life, timeout_s=max(0.001, until - time.monotonic()))
            head, _, lines = body.partition(b"\n")
            if head != str(number).encode():
                continue  # the answer to an order that nobody waits for any more
            for line in lines.splitlines():
                try:
                    answer = parse(line)
                except RecordError as error:
                    shown = readable(line[:60].decode(errors="replace"))
                    raise WorkerLost(f"the page answered {shown!r}, which is no record: {error.message}") from error
                if isinstance(answer, Done):
                    return found
                found.append(answer)

    def _checked(self, command: Command, answer: Answer) -> Answer:
        """The answer with readable texts.

        Raises:
            WorkerLost: It does not fit the command.
        """
        wrong = ""
        if isinstance(answer, Hello) or answer.item != command.item:
            wrong = "about something else"
        elif isinstance(answer, Failed):
            return replace(answer, reason=readable(answer.reason), hint=readable(answer.hint))
        elif isinstance(answer, Loaded) and command.do == "load":
            return replace(answer, runtime=readable(answer.runtime))
        elif isinstance(answer, Slice) and command.do == "measure":
            samples = (*answer.infer_ns, *answer.warmup_ns, *answer.prepare_ns, *answer.finish_ns)
            if not 1 <= len(answer.infer_ns) <= command.runs or not all(0 <= ns < MAX_NS for ns in samples):
                wrong = "with samples that cannot be"
        elif isinstance(answer, Mask) and command.do == "masks":
            shape = self._shapes.get(answer.frame, ())[:2]
            if (answer.height, answer.width) != shape or answer.bits not in (1, 8):
                wrong = "with a mask of another size"
        else:
            wrong = f"with a record of the kind {answer.kind}"
        if wrong:
            raise WorkerLost(f"the page answered {wrong}")
        return answer

    def _remember(self, command: Command) -> None:
        if command.do in ("load", "close") and command.item in self._loaded:
            self._loaded.remove(command.item)
        if command.do == "load":
            self._loaded.append(command.item)

    def _put(self, content: bytes) -> str:
        path = self._shelf.offer(content)
        self._files.append(path)
        return path


def readable(text: str, most: int = MAX_TEXT) -> str:
    """A foreign text on one line, without control characters, cut to what a table bears."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:most]


def readable_hello(hello: Hello) -> Hello:
    """A foreign greeting with readable texts, and not too many of them.

    Raises:
        WorkerLost: It has too many.
    """
    if len(hello.device) > 32 or len(hello.software) > 16:
        raise WorkerLost("the page says too much of itself")
    return replace(
        hello,
        device={readable(key, MAX_FACT): readable(value, MAX_FACT) for key, value in hello.device.items()},
        software={readable(key, MAX_FACT): readable(value, MAX_FACT) for key, value in hello.software.items()},
        governor=None,
    )


def _raw(frame: Array) -> bytes:
    """A picture as the page reads it: height and width (32 bits each, little-endian), then the pixels."""
    height, width = frame.shape[:2]
    return height.to_bytes(4, "little") + width.to_bytes(4, "little") + frame.tobytes()
