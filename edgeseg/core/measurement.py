"""What a worker answers: one JSON object a line, each with its `kind`.

Durations are differences of ``time.perf_counter_ns`` on the device. None = this device does not say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Optional, Union

from edgeseg.core import records


@dataclass(frozen=True)
class Conditions:
    """The state of the device at one moment, or over one slice.

    Attributes:
        load: Load average of the last minute.
        frequency_mhz: Clock of the fastest core.
        temperature_c: The hottest of the sensors that belong to the CPU.
        throttled: Whether the device says that it holds its clock down.
        throttle_flags: The bits of a Raspberry Pi's ``get_throttled``; `edgeseg.core.throttling` reads them.
        background: Share of all cores' time that other processes took during the slice, 0 to 1.
        preemptions: How often the worker was made to wait for others during the slice.
    """

    load: Optional[float] = None
    frequency_mhz: Optional[float] = None
    temperature_c: Optional[float] = None
    throttled: Optional[bool] = None
    throttle_flags: Optional[int] = None
    background: Optional[float] = None
    preemptions: Optional[int] = None


@dataclass(frozen=True)
class Hello:
    """A worker is ready for commands."""

    device: dict[str, str]
    """What the device is: `cpu`, `cores`, `memory_bytes`, `system`, `machine`; `board`, `soc` and `core` where there are such,
    and `id` where many devices of a kind may come."""
    software: dict[str, str]
    """Versions: `python`, `numpy`, `edgeseg`."""
    governor: Optional[str] = None
    conditions: Conditions = Conditions()
    emulated: bool = False
    """Whether this is a stand-in whose time means nothing."""
    kind: Literal["hello"] = "hello"
    schema_version: int = 1


@dataclass(frozen=True)
class Loaded:
    """An item is loaded and has run once.

    Attributes:
        item: Its key.
        runtime: Package of the runtime and its version.
        import_ns: Importing the runtime's package; 0 where the process had it already.
        load_ns: From the file to a session.
        first_ns: The first run.
        peak_bytes: Peak resident memory of the worker so far.
        executed: What the runtime really computes in, as far as it tells: precision to number of operations.
    """

    item: str
    runtime: str
    import_ns: int
    load_ns: int
    first_ns: int
    peak_bytes: Optional[int] = None
    executed: dict[str, int] = field(default_factory=dict)
    kind: Literal["loaded"] = "loaded"


@dataclass(frozen=True)
class Slice:
    """Consecutive runs of one item; every sample in ns.

    Attributes:
        item: Its key.
        warmup_ns: Runs before the measured ones.
        infer_ns: Runs of the network.
        prepare_ns: Frame to input tensor.
        finish_ns: Output tensor to mask, at the frame's size.
        conditions: How the device was meanwhile.
        peak_bytes: Peak resident memory of the worker so far.
        batch: Each of `infer_ns` is the mean of so many consecutive runs: more than one where the device's clock is
            too coarse for a single run.
    """

    item: str
    warmup_ns: tuple[int, ...]
    infer_ns: tuple[int, ...]
    prepare_ns: tuple[int, ...]
    finish_ns: tuple[int, ...]
    conditions: Conditions = Conditions()
    peak_bytes: Optional[int] = None
    batch: int = 1
    kind: Literal["slice"] = "slice"


@dataclass(frozen=True)
class Mask:
    """A mask that the device made.

    Attributes:
        item: The item's key.
        frame: The frame's file, as the command named it.
        height: Rows.
        width: Columns.
        bits: Bits a pixel: 1 for two classes, else 8.
        data: The pixels, row by row, packed (most significant bit first), zlib-compressed, base64.
    """

    item: str
    frame: str
    height: int
    width: int
    bits: int
    data: str
    kind: Literal["mask"] = "mask"


@dataclass(frozen=True)
class Done:
    """A command is finished; the worker sleeps until the next."""

    item: str
    kind: Literal["done"] = "done"


@dataclass(frozen=True)
class Failed:
    """A command could not be carried out; the worker goes on with the next."""

    item: str
    reason: str
    hint: str = ""
    kind: Literal["failed"] = "failed"


Answer = Union[Hello, Loaded, Slice, Mask, Done, Failed]

_KINDS = {"hello": Hello, "loaded": Loaded, "slice": Slice, "mask": Mask, "done": Done, "failed": Failed}


def parse(line: Union[str, bytes]) -> Answer:
    """One line of a worker.

    Raises:
        RecordError: It is no such record.
    """
    answer: Answer = records.of_kind(_KINDS, line)
    return answer
