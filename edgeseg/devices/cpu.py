"""This machine's processor. The worker runs in a process of its own here too: local is just a device."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeseg.core import records
from edgeseg.core.arrays import Array
from edgeseg.core.device import WorkerLost
from edgeseg.core.job import Command, Item, Job
from edgeseg.core.measurement import Answer, Done, Hello, parse
from edgeseg.core.records import RecordError
from edgeseg.transports.process import Channel, ChannelClosed, ChannelTimeout
from edgeseg.worker import pack


class LocalWorker:
    """A worker in a process of this machine.

    Args:
        items: What it measures; `Item.file` is a path.
        frames: Pictures for the timed runs.
        timeout_s: How long the start may take.
        python: The interpreter, with its arguments, that runs the worker's file.
    """

    def __init__(
        self,
        items: Sequence[Item],
        frames: Sequence[Array],
        *,
        timeout_s: float,
        python: Sequence[str] = (sys.executable,),
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="edgeseg-worker-"))
        self._channel: Channel | None = None
        self._sent: list[str] = []
        try:
            job = Job(tuple(items), tuple(self._write(frames, "timed")))
            worker = pack.pack(self._folder / "worker.pyz")
            started = time.perf_counter_ns()
            self._channel = Channel([*python, str(worker)])
            self._channel.send(records.to_json(job))
            hello = self._receive(timeout_s)
            self.start_ns = time.perf_counter_ns() - started
            if not isinstance(hello, Hello):
                raise WorkerLost(f"the worker began with {hello.kind!r} instead of a greeting")
            self.hello = hello
        except ChannelClosed as error:
            self.close()
            raise WorkerLost(f"the worker did not start: {error.message}") from error
        except BaseException:
            self.close()
            raise

    def ask(self, command: Command, *, timeout_s: float) -> Iterator[Answer]:
        """See `edgeseg.core.device.Worker.ask`."""
        if self._channel is None:
            raise WorkerLost("the worker has been ended")
        until = time.monotonic() + timeout_s
        try:
            self._channel.send(records.to_json(command))
            while True:
                answer = self._receive(max(0.0, until - time.monotonic()), limit_s=timeout_s)
                if isinstance(answer, Done):
                    return
                yield answer
        except (ChannelClosed, ChannelTimeout) as error:
            self.close()
            raise WorkerLost(f"the worker was lost: {error.message}") from error
        except WorkerLost:
            self.close()
            raise

    def send_frames(self, frames: Sequence[Array]) -> list[str]:
        """See `edgeseg.core.device.Worker.send_frames`."""
        for old in self._sent:
            Path(old).unlink(missing_ok=True)
        self._sent = self._write(frames, "frame")
        return self._sent

    def close(self) -> None:
        """See `edgeseg.core.device.Worker.close`."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _receive(self, timeout_s: float, *, limit_s: float | None = None) -> Answer:
        assert self._channel is not None
        try:
            line = self._channel.receive(timeout_s=timeout_s)
        except ChannelTimeout as error:
            raise WorkerLost(f"the worker gave no answer within {limit_s or timeout_s:.0f} s and was ended") from error
        try:
            return parse(line)
        except RecordError as error:
            shown = line[:60].decode(errors="replace")
            raise WorkerLost(f"the worker answered {shown!r}, which is no record: {error.message}") from error

    def _write(self, frames: Sequence[Array], name: str) -> list[str]:
        paths = []
        for index, frame in enumerate(frames):
            path = self._folder / f"{name}-{index}.npy"
            np.save(path, frame, allow_pickle=False)
            paths.append(str(path))
        return paths


class CpuDevice:
    """See the module.

    Args:
        python: The interpreter, with its arguments, that runs the worker's file.
    """

    name = "cpu"

    def __init__(self, python: Sequence[str] = (sys.executable,)) -> None:
        self._python = tuple(python)

    def probe(self) -> Hello:
        """Start a worker for no job, and ask it nothing."""
        worker = LocalWorker((), (), timeout_s=60, python=self._python)
        worker.close()
        return worker.hello

    def start(self, items: Sequence[tuple[Item, Path]], frames: Sequence[Array], *, timeout_s: float) -> LocalWorker:
        """See `edgeseg.core.device.Device.start`; nothing is copied, the worker opens the artifacts where they lie."""
        placed = [replace(item, file=str((folder / item.file).resolve())) for item, folder in items]
        return LocalWorker(placed, frames, timeout_s=timeout_s, python=self._python)


DEVICE = CpuDevice()
