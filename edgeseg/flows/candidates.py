"""Candidates side by side in one worker; one that kills the worker is left out, and the others go on in a new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgeseg.core.arrays import Array
from edgeseg.core.device import ConnectionLost, Device, Worker, WorkerLost
from edgeseg.core.job import Command, Item
from edgeseg.core.measurement import Answer, Failed


class Candidates:
    """What is still in the race.

    Args:
        device: Where the worker runs.
        items: Candidate to its item and the folder of its files.
        frames: Pictures for the timed runs.
        timeout_s: How long a worker may take for one command.
        say: Told of each candidate that is left out, and why.
    """

    def __init__(
        self,
        device: Device,
        items: Mapping[tuple[str, ...], tuple[Item, Path]],
        frames: Sequence[Array],
        *,
        timeout_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._device = device
        self._items = dict(items)
        self._frames = frames
        self._timeout_s = timeout_s
        self._say = say
        self._loaded: set[tuple[str, ...]] = set()
        self._worker: Worker | None = None
        self.device_words: dict[str, str] = {}

    @property
    def names(self) -> list[tuple[str, ...]]:
        """The candidates that are left, in their order."""
        return list(self._items)

    def load(self, names: tuple[str, ...]) -> bool:
        """Load a candidate, again if it was loaded before; False if it is out of the race now."""
        if self._ask(names, Command("load", self._items[names][0].key)) is None:
            return False
        self._loaded.add(names)
        return True

    def measure(self, names: tuple[str, ...], runs: int) -> list[Answer] | None:
        """The answers to one timed slice; None if the candidate is out of the race now."""
        if names not in self._loaded and not self.load(names):  # the worker is a new one
            return None
        return self._ask(names, Command("measure", self._items[names][0].key, runs=runs, around=0))

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self._loaded.clear()

    def _ask(self, names: tuple[str, ...], command: Command) -> list[Answer] | None:
        if self._worker is None:
            self._worker = self._device.start(list(self._items.values()), self._frames, timeout_s=self._timeout_s)
            self.device_words = dict(self._worker.hello.device)
        try:
            answers = list(self._worker.ask(command, timeout_s=self._timeout_s))
        except ConnectionLost:
            raise  # not the candidate's fault
        except WorkerLost as error:
            self.close()
            self._leave_out(names, error.message)
            return None
        failed = next((answer for answer in answers if isinstance(answer, Failed)), None)
        if failed is not None:
            self._leave_out(names, failed.reason)
            return None
        return answers

    def _leave_out(self, names: tuple[str, ...], reason: str) -> None:
        del self._items[names]
        self._loaded.discard(names)
        self._say(f"{'+'.join(names) or 'the plain graph'} is left out: {reason}")
