"""Google's ``benchmark_model`` for TFLite files, which the user has: pushed, run, and what it prints made into records.

It tells means, not samples: a slice of it is one sample that stands for so many runs. It feeds random numbers and keeps its
output to itself, so there are no masks.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.arrays import Array
from edgeseg.core.device import TOOL, ConnectionLost, Worker, WorkerLost
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.job import Command, Item
from edgeseg.core.measurement import Answer, Conditions, Failed, Hello, Loaded, Slice
from edgeseg.core.process import Timeout
from edgeseg.transports.shell import Shell

WHERE_FROM = "Google's builds are called android_aarch64_benchmark_model (TensorFlow Lite, 'Performance measurement')"
_AARCH64 = 183
"""`e_machine` of an ELF file."""
_RUN = 'chmod 755 "$1" && shift && exec "$@" 2>&1'


@dataclass(frozen=True)
class Printed:
    """What it printed of one run.

    Attributes:
        init_ns: Until the file was loaded.
        first_ns: The first inference.
        mean_ns: Of the measured inferences.
        count: Of these.
        peak_bytes: Memory that it says to have taken in all.
    """

    init_ns: int
    first_ns: int
    mean_ns: int
    count: int
    peak_bytes: int | None


def parse(text: str) -> Printed | None:
    """Read its output, of any version since 2020; None if it holds no result."""
    number = r"([\d.]+(?:e[+-]?\d+)?)"
    timings = re.search(
        rf"Inference timings in us: Init: {number}, First inference: {number}, Warmup \(avg\): {number}, "
        rf"Inference \(avg\): {number}",
        text,
    )
    counts = re.findall(r"count=(\d+)", text)
    if timings is None or not counts:
        return None
    init, first, _, mean = (round(1000 * float(value)) for value in timings.groups())
    memory = re.search(rf"overall=\s*{number}", text)
    peak = round(1e6 * float(memory.group(1))) if memory else None
    return Printed(init, first, mean, int(counts[-1]), peak)


def check(path: Path) -> None:
    """Refuse a file that no phone can run.

    Raises:
        EdgesegError: It is not there, no program, or one for another processor.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(20)
    except OSError as error:
        raise EdgesegError(f"{path} cannot be read: {error.strerror}", WHERE_FROM) from error
    if head.startswith(b"#!"):
        return
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        raise EdgesegError(f"{path} is no program", WHERE_FROM)
    if head[4] != 2 or struct.unpack("<H", head[18:20])[0] != _AARCH64:
        raise EdgesegError(f"{path} is a program, and not for 64-bit Arm", WHERE_FROM)


class ToolWorker:
    """A worker whose items for ``benchmark_model`` are run by that; the others, and all questions, are the worker's.

    Args:
        worker: It.
        shell: The way to the device.
        tool: Where ``benchmark_model`` is there, with the words that bind it to cores before it.
        items: What it runs, with paths as they are there.
    """

    hello: Hello

    def __init__(self, worker: Worker, shell: Shell, tool: Sequence[str], items: Mapping[str, Item]) -> None:
        self._worker, self._shell, self._tool, self._items = worker, shell, tuple(tool), dict(items)
        self.hello, self.start_ns = worker.hello, worker.start_ns

    def ask(self, command: Command, *, timeout_s: float) -> Iterator[Answer]:
        """See `edgeseg.core.device.Worker.ask`."""
        item = self._items.get(command.item)
        if item is None or command.do == "probe":
            yield from self._worker.ask(command, timeout_s=timeout_s)
        elif command.do == "load":
            yield from self._load(item, timeout_s)
        elif command.do == "measure":
            yield from self._measure(item, command, timeout_s)
        elif command.do == "masks":
            yield Failed(item.key, f"{TOOL} gives no masks")

    def send_frames(self, frames: Sequence[Array]) -> list[str]:
        """See `edgeseg.core.device.Worker.send_frames`."""
        return self._worker.send_frames(frames)

    def close(self) -> None:
        """See `edgeseg.core.device.Worker.close`."""
        self._worker.close()

    def _load(self, item: Item, timeout_s: float) -> Iterator[Answer]:
        printed = self._run(item, 1, 1, timeout_s)
        if isinstance(printed, Failed):
            yield printed
            return
        yield Loaded(item.key, TOOL, 0, printed.init_ns, printed.first_ns, printed.peak_bytes)

    def _measure(self, item: Item, command: Command, timeout_s: float) -> Iterator[Answer]:
        printed = self._run(item, command.runs, command.warmups, timeout_s)
        if isinstance(printed, Failed):
            yield printed
            return
        yield Slice(
            item.key, (printed.first_ns,), (printed.mean_ns,), (), (),
            conditions=self._conditions(item, timeout_s), peak_bytes=printed.peak_bytes, batch=printed.count,
        )  # fmt: skip

    def _conditions(self, item: Item, timeout_s: float) -> Conditions:
        answers = list(self._worker.ask(Command("probe", item.key), timeout_s=timeout_s))
        return next((answer.conditions for answer in answers if isinstance(answer, Hello)), Conditions())

    def _run(self, item: Item, runs: int, warmups: int, timeout_s: float) -> Printed | Failed:
        *before, tool = self._tool
        flags = {
            "graph": item.file, "num_threads": max(1, item.threads), "use_xnnpack": "true", "num_runs": max(1, runs),
            "warmup_runs": max(1, warmups), "min_secs": 0, "warmup_min_secs": 0,
        }  # fmt: skip
        words = [*before, tool, *(f"--{name}={value}" for name, value in flags.items())]
        try:
            done = self._shell.run(_RUN, [tool, *words], timeout_s=timeout_s)
        except DeviceUnreachable as error:
            self.close()
            raise ConnectionLost(f"connection lost: {error.message}") from error
        except Timeout as error:
            self.close()
            raise WorkerLost(f"{TOOL} did not end: {error.message}") from error
        printed = parse(done.stdout)
        if printed is None or done.returncode != 0:
            return Failed(item.key, f"{TOOL} gave no result: {done.last_words}", WHERE_FROM)
        return printed
