"""This machine's processor. The worker runs in a process of its own here too: local is just a device."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.job import Item, Job
from edgeseg.core.measurement import Hello
from edgeseg.devices._channel_worker import ChannelWorker
from edgeseg.transports.process import Channel
from edgeseg.worker import pack


class LocalWorker(ChannelWorker):
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
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="edgeseg-worker-"))
        self._sent: list[str] = []
        try:
            job = Job(tuple(items), tuple(self._write(frames, "timed")))
            worker = pack.pack(self._folder / "worker.pyz")
        except BaseException:
            self.close()
            raise
        self._open(lambda: Channel([*python, str(worker)]), job, timeout_s)

    def send_frames(self, frames: Sequence[Array]) -> list[str]:
        """See `edgeseg.core.device.Worker.send_frames`."""
        for old in self._sent:
            Path(old).unlink(missing_ok=True)
        self._sent = self._write(frames, "frame")
        return self._sent

    def close(self) -> None:
        """See `edgeseg.core.device.Worker.close`."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)

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

    def close(self) -> None:
        """Nothing is held."""


DEVICE = CpuDevice()
