"""The protocol of a device: one place where a model runs, in one file of `edgeseg/devices/`.

A device module has a `DEVICE` object. `probe` says what the device is, `start` puts a job there and starts a worker.
Scheduling, statistics and records know nothing of how that is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol

from edgeseg.core.arrays import Array
from edgeseg.core.errors import EdgesegError
from edgeseg.core.job import Command, Item
from edgeseg.core.measurement import Answer, Hello

TOOL = "benchmark_model"
"""The accelerator of variants that Google's ``benchmark_model`` runs instead of the worker; there are no masks of them."""


class WorkerLost(EdgesegError):
    """A worker crashed, hung or answered rubbish; it has been ended."""

    usual_hint = "try it with one artifact; --timeout gives it longer; edgeseg device clean NAME sets a board up anew"


class ConnectionLost(WorkerLost):
    """The way to the device broke, not the worker: what it was asked can be asked again once the device answers."""


def _silent(line: str) -> None:
    pass


@dataclass(frozen=True)
class Settings:
    """What the user asked of a device; each takes what applies to it.

    Attributes:
        host: Where it is, ``user@name[:port]``; empty: as the name and the definitions say.
        offline: The device has no internet: what it needs is fetched here and pushed.
        trust_new_host: Accept and remember the host key of a device that is met for the first time.
        governor: Clock governor while the device is in use; empty: it is left alone.
        cool_to_c: Wait until it is no hotter than this before timing; None: no waiting.
        cores: ``big`` or ``little``: the cores that workers may use; empty: all.
        keep: Leave on the device what was pushed, where it would be removed at the end.
        benchmark_model: Google's benchmark of TFLite files for the device, as a file here; empty: it is not run.
        say: Told what takes long, a line each.
    """

    host: str = ""
    offline: bool = False
    trust_new_host: bool = False
    governor: str = ""
    cool_to_c: Optional[float] = None
    cores: str = ""
    keep: bool = False
    benchmark_model: str = ""
    say: Callable[[str], None] = _silent


class Worker(Protocol):
    """A running worker. It sleeps unless it was asked for something."""

    hello: Hello
    start_ns: int
    """From the order to start it to its first word, on the host's clock."""

    def ask(self, command: Command, *, timeout_s: float) -> Iterator[Answer]:
        """Give one command and hand on the answers, without `Done`; the host sleeps in between.

        Raises:
            WorkerLost: It ended, answered what is no record, or took longer than `timeout_s`.
        """
        ...

    def send_frames(self, frames: Sequence[Array]) -> list[str]:
        """Put pictures, [H, W, 3] uint8 RGB, on the device and return what a command calls them there.

        The pictures of the call before are removed.
        """
        ...

    def close(self) -> None:
        """End it and remove what it left on the device; safe to call twice."""
        ...


class Device(Protocol):
    """One place where a model runs."""

    name: str

    def probe(self) -> Hello:
        """What the device is and how it is now.

        Raises:
            DeviceUnreachable: It does not answer.
        """
        ...

    def start(self, items: Sequence[tuple[Item, Path]], frames: Sequence[Array], *, timeout_s: float) -> Worker:
        """Bring files there and start one worker.

        Args:
            items: What it will measure, and the local folder of each one's artifact; `Item.file` is the name of a
                file in that folder, and becomes a path on the device.
            frames: Pictures for the timed runs.
            timeout_s: How long the start may take.

        Raises:
            DeviceUnreachable: It does not answer.
            WorkerLost: The worker did not start.
        """
        ...

    def close(self) -> None:
        """Let go of it: end connections, put back what was changed for the measuring; safe to call twice."""
        ...
