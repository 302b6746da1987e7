"""What a worker is told: the job that it opens with, and the commands that follow, one JSON object a line.

The same lines go to a process on this machine, through ssh to a board and through adb to a phone; a page in a phone's
browser fetches them. A worker answers each command with the records of `edgeseg.core.measurement` and then sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgeseg.core.spec import ModelSpec


@dataclass(frozen=True)
class Item:
    """One thing to measure: an artifact with a number of threads.

    Attributes:
        key: What its records are called, e.g. ``pphumanseg-lite/openvino-fp32@1``.
        backend: Name of the runtime's plug-in.
        file: The file that the runtime opens, as a path on the device.
        spec: The artifact's spec.
        threads: CPU threads of the runtime; 0: its default.
        options: The artifact's runtime options.
        slowdown: Above 1, each run is stretched to so many times its duration: the twin of a self-test.
    """

    key: str
    backend: str
    file: str
    spec: ModelSpec
    threads: int = 1
    options: dict[str, str] = field(default_factory=dict)
    slowdown: float = 1.0


@dataclass(frozen=True)
class Job:
    """Everything that a worker has to know before it is given commands.

    Attributes:
        items: What will be measured; a command names one by its key.
        frames: ``.npy`` files on the device, [H, W, 3] uint8 RGB, that the timed runs take in turn.
    """

    items: tuple[Item, ...]
    frames: tuple[str, ...]
    schema_version: int = 1


@dataclass(frozen=True)
class Command:
    """One thing to do.

    Attributes:
        do: ``load`` an item (again: the old session is closed first), ``measure`` a slice of runs, ``masks``: answer
            the mask of each frame, ``close`` an item; ``probe``: answer how the device is now.
        item: Its key.
        runs: `measure`: timed runs of the network.
        warmups: `measure`: runs before them, timed apart.
        around: `measure`: timed runs of pre- and of post-processing.
        frames: `masks`: ``.npy`` files on the device.
    """

    do: Literal["load", "measure", "masks", "close", "probe"]
    item: str
    runs: int = 1
    warmups: int = 1
    around: int = 1
    frames: tuple[str, ...] = ()
