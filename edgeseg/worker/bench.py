"""Loading and timing: what is measured, and nothing else, stands between two readings of the clock."""

from __future__ import annotations

import base64
import contextlib
import importlib
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Union

import numpy as np

from edgeseg import backends
from edgeseg.core.arrays import Array
from edgeseg.core.errors import EdgesegError
from edgeseg.core.job import Command, Item, Job
from edgeseg.core.measurement import Hello, Loaded, Mask, Slice
from edgeseg.data.predictor import Predictor
from edgeseg.worker import probe


class Bench:
    """The items of a job, loaded when a command says so."""

    def __init__(self, job: Job) -> None:
        self._items = {item.key: item for item in job.items}
        self._frames = [np.load(frame, allow_pickle=False) for frame in job.frames]
        self._loaded: dict[str, _Ready] = {}
        self._ballast = np.zeros(0)
        self._random = np.random.default_rng()

    def do(self, command: Command) -> Iterator[Union[Hello, Loaded, Slice, Mask]]:
        """Carry out one command.

        Raises:
            EdgesegError: There is no such item, or the runtime cannot load it.
        """
        if command.do == "probe":
            yield probe.hello()
            return
        if command.item not in self._items:
            raise EdgesegError(f"the job has no item {command.item}")
        if command.do == "load":
            if command.item in self._loaded:
                self._close(command.item)
                self._move()
            yield self._load(self._items[command.item])
        elif command.do == "close":
            self._close(command.item)
        elif command.item not in self._loaded:
            raise EdgesegError(f"{command.item} is not loaded")
        elif command.do == "measure":
            yield self._loaded[command.item].measure(command)
        else:
            predictor = self._loaded[command.item].predictor
            for frame in command.frames:
                yield encode(command.item, frame, predictor.mask(np.load(frame, allow_pickle=False)), predictor)

    def _move(self) -> None:
        """Take some of the memory that was just freed, so that the next load does not come to lie where the last one lay.

        A load is repeated to average over the luck of its place in memory; the allocator would hand out the same again.
        """
        self._ballast = np.ones(int(self._random.integers(1 << 17, 1 << 21)))

    def _close(self, key: str) -> None:
        ready = self._loaded.pop(key, None)
        if ready is not None:
            ready.predictor.close()

    def _load(self, item: Item) -> Loaded:
        backend = backends.load(item.backend)
        started = perf_counter_ns()
        if backend.package not in sys.modules:
            with contextlib.suppress(ImportError):  # the backend itself says how to install what it needs
                importlib.import_module(backend.package)
        imported = perf_counter_ns()
        session = backend.load(Path(item.file), item.spec, threads=item.threads, options=item.options)
        loaded = perf_counter_ns()
        ready = _Ready(item, Predictor(item.spec, session), self._frames)
        first = ready.once()
        self._loaded[item.key] = ready
        return Loaded(
            item=item.key,
            runtime=probe.version_of(backend.package),
            import_ns=imported - started,
            load_ns=loaded - imported,
            first_ns=first,
            peak_bytes=probe.peak_bytes(),
            executed=_executed(session),
        )


class _Ready:
    """A loaded item with its inputs prepared, because the network alone is timed in `measure`'s main loop."""

    def __init__(self, item: Item, predictor: Predictor, frames: list[Array]) -> None:
        self._item = item
        self.predictor = predictor
        self._frames = frames or [np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)]
        self._tensors = [predictor.prepare(frame) for frame in self._frames]
        self._next = 0

    def once(self) -> int:
        """One run of the network alone on the next frame, in ns; bringing in- and output to and from the runtime is a part
        of preparing and finishing."""
        self.predictor.feed(self._tensors[self._next % len(self._tensors)])
        self._next += 1
        started = perf_counter_ns()
        self.predictor.execute()
        elapsed = perf_counter_ns() - started
        if self._item.slowdown > 1:
            until = started + int(elapsed * self._item.slowdown)
            while perf_counter_ns() < until:  # the twin has to use the processor as a slower network would
                pass
            return perf_counter_ns() - started
        return elapsed

    def measure(self, command: Command) -> Slice:
        """One slice of runs."""
        warmups = tuple(self.once() for _ in range(command.warmups))
        watch = probe.Watch()
        runs = tuple(self.once() for _ in range(command.runs))
        conditions = watch.conditions()
        prepare, finish = [], []
        for index in range(command.around):
            frame = self._frames[(self._next + index) % len(self._frames)]
            started = perf_counter_ns()
            self.predictor.feed(self.predictor.prepare(frame))
            prepared = perf_counter_ns()
            self.predictor.execute()
            inferred = perf_counter_ns()
            self.predictor.finish(self.predictor.fetch(), *frame.shape[:2])
            finish.append(perf_counter_ns() - inferred)
            prepare.append(prepared - started)
        return Slice(
            item=command.item,
            warmup_ns=warmups,
            infer_ns=runs,
            prepare_ns=tuple(prepare),
            finish_ns=tuple(finish),
            conditions=conditions,
            peak_bytes=probe.peak_bytes(),
        )


def encode(item: str, frame: str, mask: Array, predictor: Predictor) -> Mask:
    """A mask as a record: one bit a pixel for two classes, zlib, base64."""
    two = predictor.spec.output_channels <= 2 and len(predictor.spec.classes) <= 2
    raw = np.packbits(mask) if two else np.ascontiguousarray(mask)
    data = base64.b64encode(zlib.compress(raw.tobytes(), 1)).decode()
    return Mask(item, frame, mask.shape[0], mask.shape[1], 1 if two else 8, data)


def decode(record: Mask) -> Array:
    """The mask of a record: [H, W], uint8 class indices.

    Raises:
        EdgesegError: The record does not hold as many pixels as it says.
    """
    size = record.height * record.width
    limit = size if record.bits != 1 else (size + 7) // 8
    try:
        # No more is unpacked than there can be: what comes from a device may be made to swell.
        unpacked = zlib.decompressobj().decompress(base64.b64decode(record.data, validate=True), limit + 1)
        raw = np.frombuffer(unpacked, np.uint8)
    except (ValueError, zlib.error) as error:
        raise EdgesegError(f"the mask of {record.frame} is damaged: {error}") from error
    if record.bits == 1:
        raw = np.unpackbits(raw)[:size]
    if raw.size != size:
        raise EdgesegError(f"the mask of {record.frame} has {raw.size} pixels, {size} were said")
    return raw.reshape(record.height, record.width)


def _executed(session: object) -> dict[str, int]:
    """Operations by the precision that they really run in, from runtimes that tell."""
    tell = getattr(session, "executed_precisions", None)
    return dict(Counter(tell().values())) if tell is not None else {}
