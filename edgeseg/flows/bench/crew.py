"""The workers of one bench: one process a backend, replaced when it is lost, and the item that lost it left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgeseg.core.arrays import Array
from edgeseg.core.device import ConnectionLost, Device, Worker, WorkerLost
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.job import Command, Item
from edgeseg.core.manifest import Artifact
from edgeseg.core.measurement import Answer, Conditions, Failed, Hello, Loaded, Slice
from edgeseg.flows.bench.results import Cold, Failure, Variant

LOSSES = 5
"""A connection that breaks more often in one session is none."""


@dataclass(frozen=True)
class Mate:
    """A variant with what a worker has to know of it."""

    variant: Variant
    artifact: Artifact

    @property
    def item(self) -> Item:
        """The job's item; its file is named as in the artifact's folder."""
        document = self.artifact.manifest
        accelerator = self.variant.accelerator
        return Item(
            key=self.variant.key,
            backend=document.backend,
            file=document.files[0].name,
            spec=document.spec,
            threads=self.variant.threads,
            options={**document.runtime_options, **({"accelerator": accelerator} if accelerator else {})},
            slowdown=self.variant.slowdown,
        )


class Crew:
    """Starts, asks and replaces workers.

    Args:
        device: Where they run.
        mates: What is measured.
        frames: Pictures for the timed runs.
        timeout_s: How long a worker may take for one command beyond what it is expected to take.
        lost: Told of each item that is left out from now on.
    """

    def __init__(
        self,
        device: Device,
        mates: Sequence[Mate],
        frames: Sequence[Array],
        *,
        timeout_s: float,
        lost: Callable[[Failure], None],
    ) -> None:
        self._device = device
        self._frames = frames
        self._timeout_s = timeout_s
        self._lost = lost
        self._alive = {mate.variant.key: mate for mate in mates}
        self._workers: dict[str, Worker] = {}
        self._losses = 0

    @property
    def alive(self) -> list[Mate]:
        """What can still be measured, in the order of the table."""
        return list(self._alive.values())

    def cold(self, mate: Mate, *, runs: int = 3) -> Cold | None:
        """Start, load and first run in a fresh process, which is ended again; None if that fails."""
        while True:
            try:
                return self._cold(mate, runs)
            except ConnectionLost as error:
                self._count_loss(error)

    def _cold(self, mate: Mate, runs: int) -> Cold | None:
        worker = None
        try:
            worker = self._start([mate])
            loaded = self._load(worker, mate)
            if loaded is None:
                return None
            peak = loaded.peak_bytes
            for answer in worker.ask(Command("measure", mate.variant.key, runs=runs), timeout_s=self._timeout_s):
                if isinstance(answer, Failed):
                    self._leave_out(mate, "measure", answer.reason, answer.hint)
                    return None
                if isinstance(answer, Slice):
                    peak = answer.peak_bytes
            return Cold(mate.variant.key, worker.start_ns, loaded, peak)
        except ConnectionLost:
            raise
        except WorkerLost as error:
            self._leave_out(mate, "start", error.message)
            return None
        finally:
            if worker is not None:
                worker.close()

    def measure(self, mate: Mate, *, runs: int, warmups: int, around: int = 0, expected_s: float = 0.0) -> Slice | None:
        """One slice; None if it fails, and the item is left out from then on."""
        command = Command("measure", mate.variant.key, runs=runs, warmups=warmups, around=around)
        found = [one for one in self._ask(mate, command, "measure", expected_s) if isinstance(one, Slice)]
        return found[0] if found else None

    def reload(self, mate: Mate) -> None:
        """Load an item anew in its worker."""
        list(self._ask(mate, Command("load", mate.variant.key), "load", 0.0))

    def masks(self, mate: Mate, frames: Sequence[Array]) -> tuple[list[str], list[Answer]]:
        """The masks of some pictures: what the worker calls the pictures, and its answers."""
        before = self._losses - 1
        while before < self._losses:  # once, and once more after each connection that was lost meanwhile
            before = self._losses
            worker = self._worker(mate)
            if worker is None:
                return [], []
            try:
                names = worker.send_frames(frames)
            except WorkerLost as error:
                self._drop(mate, "masks", error)
                continue
            command = Command("masks", mate.variant.key, frames=tuple(names))
            answers = list(self._ask(mate, command, "masks", 0.0))
            if self._losses == before:
                return names, answers
        return [], []

    def conditions(self) -> Conditions | None:
        """How the device is now; None if nothing runs on it."""
        for mate in self.alive:
            # All answers are taken: one that was left would be read as the next command's.
            answers = list(self._ask(mate, Command("probe", mate.variant.key), "probe", 0.0))
            found = [answer.conditions for answer in answers if isinstance(answer, Hello)]
            if found:
                return found[0]
        return None

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _ask(self, mate: Mate, command: Command, stage: str, expected_s: float) -> Iterator[Answer]:
        worker = self._worker(mate)
        if worker is None:
            return
        try:
            for answer in worker.ask(command, timeout_s=self._timeout_s + 10 * expected_s):
                if isinstance(answer, Failed):
                    self._leave_out(mate, stage, answer.reason, answer.hint)
                else:
                    yield answer
        except WorkerLost as error:
            self._drop(mate, stage, error)

    def _drop(self, mate: Mate, stage: str, error: WorkerLost) -> None:
        """Forget a worker that was lost; its item is left out unless it was the connection that broke."""
        self._workers.pop(mate.variant.backend, None)
        if isinstance(error, ConnectionLost):
            self._count_loss(error)
        else:
            self._leave_out(mate, stage, error.message)

    def _count_loss(self, error: EdgesegError) -> None:
        self._losses += 1
        if self._losses > LOSSES:
            raise DeviceUnreachable(f"the connection broke {self._losses} times, last: {error.message}") from error

    def _worker(self, mate: Mate) -> Worker | None:
        """The worker of the item's backend, started with all of the backend's items loaded if there is none."""
        backend = mate.variant.backend
        while backend not in self._workers and mate.variant.key in self._alive:
            mates = [one for one in self.alive if one.variant.backend == backend]
            worker = None
            try:
                worker = self._start(mates)
                current = mate
                for current in mates:
                    self._load(worker, current)
                self._workers[backend] = worker
            except ConnectionLost as error:
                self._count_loss(error)
            except WorkerLost as error:
                if worker is not None:
                    worker.close()
                self._leave_out(mate if worker is None else current, "load", error.message)
            except BaseException:
                if worker is not None:
                    worker.close()
                raise
        return self._workers.get(backend) if mate.variant.key in self._alive else None

    def _start(self, mates: Sequence[Mate]) -> Worker:
        items = [(mate.item, mate.artifact.folder) for mate in mates]
        return self._device.start(items, self._frames, timeout_s=self._timeout_s)

    def _load(self, worker: Worker, mate: Mate) -> Loaded | None:
        loaded = None
        for answer in worker.ask(Command("load", mate.variant.key), timeout_s=self._timeout_s):
            if isinstance(answer, Failed):
                self._leave_out(mate, "load", answer.reason, answer.hint)
            elif isinstance(answer, Loaded):
                loaded = answer
        return loaded

    def _leave_out(self, mate: Mate, stage: str, reason: str, hint: str = "") -> None:
        if self._alive.pop(mate.variant.key, None) is not None:
            self._lost(Failure(mate.variant.key, stage, reason, hint))
