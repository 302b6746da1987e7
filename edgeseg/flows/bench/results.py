"""Results on disk: one append-only JSONL file a session, in a folder a device.

bench/results/<device-id>/device.json
bench/results/<device-id>/<session>.jsonl         one record a line, in the order in which they came
bench/results/<device-id>/<session>.masks.npz     the worst masks, for the report
bench/results/<device-id>/<session>.judged.part   pictures that were judged so far, while it is not finished

A line is written as soon as it is known, so a bench that is killed keeps what it had. A line that cannot be read is
skipped and named.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeseg.core import atomic, records
from edgeseg.core.errors import EdgesegError
from edgeseg.core.measurement import Conditions, Hello, Loaded, Slice
from edgeseg.core.records import RecordError
from edgeseg.metrics.latency import Interval
from edgeseg.metrics.quality import AgreementScores, QualityScores

DEVICE = "device.json"


@dataclass(frozen=True)
class Variant:
    """What a row of a table stands for: an artifact with a number of threads, or on an accelerator."""

    key: str
    artifact: str
    backend: str
    precision: str
    threads: int
    size_bytes: int
    sha256: str
    """Of the artifact's files: results of two artifacts that are called alike are not taken for one another's."""
    slowdown: float = 1.0
    integer_mac_share: float | None = None
    """Share of the multiply-accumulates in integers, as the manifest has it; None for float artifacts."""
    accelerator: str = ""
    """What computes in place of the processor, e.g. ``webgpu``; empty: nothing does."""


@dataclass(frozen=True)
class Session:
    """The first line of a file: what is measured, where and how."""

    id: str
    started: str
    command: str
    device: str
    hello: Hello
    variants: tuple[Variant, ...]
    baseline: str
    budget_s: float
    seed: int
    data: str = ""
    synthetic: bool = False
    images: int = 0
    emulated: bool = False
    kind: Literal["session"] = "session"
    schema_version: int = 1


@dataclass(frozen=True)
class Cold:
    """One variant in a fresh process: start of the process, import, load, first run, memory."""

    item: str
    start_ns: int
    loaded: Loaded
    peak_bytes: int | None
    """Peak resident memory of the whole process after its first timed runs."""
    kind: Literal["cold"] = "cold"


@dataclass(frozen=True)
class Round:
    """One slice of one variant in a round.

    Attributes:
        number: Of the round, over the whole session.
        load: How often all variants had been loaded by then.
    """

    number: int
    load: int
    slice: Slice
    kind: Literal["round"] = "round"


@dataclass(frozen=True)
class Timed:
    """The timed rounds are finished: ``narrow`` or ``budget``; a session that is resumed goes on behind them."""

    why: str
    kind: Literal["timed"] = "timed"


@dataclass(frozen=True)
class Accuracy:
    """Masks of one variant's artifact, made on the device; `item` is ``reference`` for the reference's own, made on the host."""

    item: str
    scores: QualityScores | None
    agreement: AgreementScores | None
    miou: Interval | None
    """Dataset mIoU with its bootstrap interval over the pictures."""
    miou_loss: Interval | None
    """The reference's mIoU minus this one, resampled over the same pictures."""
    connectivity_loss: Interval | None = None
    """The reference's connectivity minus this one, likewise."""
    kind: Literal["accuracy"] = "accuracy"


@dataclass(frozen=True)
class Sustained:
    """One stretch of a long run."""

    item: str
    index: int
    seconds: float
    runs: int
    median_ns: float
    p90_ns: float
    conditions: Conditions
    kind: Literal["sustained"] = "sustained"


@dataclass(frozen=True)
class Failure:
    """A variant that could not be measured, and why."""

    item: str
    stage: str
    reason: str
    hint: str = ""
    kind: Literal["failure"] = "failure"


@dataclass(frozen=True)
class End:
    """The last line: why the timing ended, ``narrow``, ``budget``, ``interrupted``, ``connection lost`` or ``emulated``."""

    why: str
    seconds: float
    kind: Literal["end"] = "end"


Record = Session | Cold | Round | Timed | Accuracy | Sustained | Failure | End
_KINDS: dict[str, type[Any]] = {
    "session": Session, "cold": Cold, "round": Round, "timed": Timed, "accuracy": Accuracy, "sustained": Sustained,
    "failure": Failure, "end": End,
}  # fmt: skip


@dataclass(frozen=True)
class BadLine:
    """A line that was skipped."""

    file: Path
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.number} was skipped: {self.reason}"


@dataclass(frozen=True)
class Recording:
    """A session's file, read."""

    path: Path
    session: Session
    records: tuple[Record, ...]
    bad: tuple[BadLine, ...] = field(default=())

    def of(self, kind: type[Any], item: str | None = None) -> list[Any]:
        """The records of a kind, in order; of one variant if `item` is given."""
        return [one for one in self.records if isinstance(one, kind) and item in (None, getattr(one, "item", item))]


class Writer:
    """Appends records to a session's file.

    Args:
        path: The file; it is made with its folder if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._handle = path.open("ab")
        if self._handle.tell() and not _ends_whole(path):
            self._handle.write(b"\n")  # what a killed run left half-written stays a bad line of its own

    def write(self, record: Record) -> None:
        """Append one line, visible to readers at once."""
        self._handle.write(records.to_json(record).encode() + b"\n")
        self._handle.flush()

    def close(self) -> None:
        """Make sure that it is on the disk."""
        if not self._handle.closed:
            os.fsync(self._handle.fileno())
            self._handle.close()


def read(path: Path) -> Recording:
    """Read a session's file.

    Raises:
        EdgesegError: It is missing, or has no session line.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise EdgesegError(
            f"the results {path} cannot be read: {error.strerror}", "edgeseg bench makes results"
        ) from error
    found: list[Record] = []
    bad: list[BadLine] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(records.of_kind(_KINDS, line))
        except RecordError as error:
            bad.append(BadLine(path, number, error.message))
    session = next((one for one in found if isinstance(one, Session)), None)
    if session is None:
        reason = f": {bad[0].reason}" if bad else ""
        raise EdgesegError(f"{path} holds no session of edgeseg bench{reason}", "edgeseg bench makes results")
    return Recording(path, session, tuple(found), tuple(bad))


def files(place: Path) -> list[Path]:
    """The sessions' files of a file, a device's folder or a folder of devices, oldest first.

    Raises:
        EdgesegError: There is none.
    """
    if place.is_file():
        return [place]
    found = sorted(place.glob("*.jsonl")) or sorted(place.glob("*/*.jsonl"), key=lambda path: path.name)
    if not found:
        raise EdgesegError(f"there are no results in {place}", "edgeseg bench --device cpu makes some")
    return found


def device_id(name: str, hello: Hello) -> str:
    """A folder name for a device: where it runs, its board or processor, and its cores, or the short random sign that
    one of many phones of a kind has; nothing that names its owner or its address, because results are shared.
    """
    name = name.partition(":")[0]
    what = hello.device.get("board") or hello.device.get("cpu", "unknown")
    what = re.sub(r"\((?:R|TM|r|tm)\)|CPU|Processor|@.*$", " ", what)
    which = hello.device.get("id") or f"{hello.device.get('cores', '')}c"
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {what} {which}".lower()).strip("-")


def write_device(folder: Path, name: str, hello: Hello) -> None:
    """Say in ``device.json`` what the folder's results were measured on; an existing file is left alone."""
    if not (folder / DEVICE).exists():
        document = {"schema_version": 1, "id": folder.name, "device": name.partition(":")[0], **hello.device}
        if hello.emulated:
            document["emulated"] = True
        atomic.write_text(folder / DEVICE, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def same_work(one: Session, other: Session) -> bool:
    """Whether a session can be gone on with as another: same artifacts, device, pictures and baseline."""
    names: Sequence[str] = ("device", "variants", "baseline", "data", "images")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) == b"\n"
