"""The artifact to ship: the best masks within the limits, and among equals the fastest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import EdgesegError
from edgeseg.flows.bench import integers, latest
from edgeseg.flows.bench.latest import Latest
from edgeseg.flows.bench.rows import Row

EQUAL_MIOU = 0.001
"""Dataset mIoU closer than this is as good: a tenth of a point, the gate of `verify`."""


@dataclass(frozen=True)
class PickRequest:
    """What is asked for; None = no limit.

    Attributes:
        results: Files or folders of results.
        device: Kind of device (``cpu``) or a device's folder name.
        max_ms: Limit for the median latency of the network: the whole interval has to lie within it.
        min_miou: Limit for dataset mIoU.
        max_bytes: Limit for the artifact's size.
        threads: Only variants with so many threads.
    """

    results: tuple[Path, ...]
    device: str = "cpu"
    max_ms: float | None = None
    min_miou: float | None = None
    max_bytes: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A variant with why it was not chosen; empty for the one that was."""

    artifact: str
    variant: str
    device: str
    threads: int
    median_ms: float | None
    miou: float | None
    size_bytes: int
    why_not: str
    doubts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    """What a table shows of it beside the doubts."""


@dataclass(frozen=True)
class PickResult:
    """The choice (None: nothing is within the limits), and the others from the nearest on."""

    chosen: Candidate | None
    others: tuple[Candidate, ...]


def pick(request: PickRequest) -> PickResult:
    """Choose.

    Raises:
        EdgesegError: There are no results of such a device.
    """
    found = latest.read(request.results)
    rows = [one for one in found.rows if request.device in (one.device, one.device.split("-")[0])]
    measured = [one for one in rows if not one.summary.session.emulated]
    rows = measured or rows  # `pi` means the board where there are results of one, never its stand-in
    if not rows:
        raise EdgesegError(
            f"there are no results of the device {request.device!r}",
            f"there are results of {', '.join(found.devices())}",
        )
    if len({one.device for one in rows}) > 1:
        names = ", ".join(dict.fromkeys(one.device for one in rows))
        raise EdgesegError(f"{request.device!r} stands for several devices: {names}", "name one of them with --device")
    if request.threads is not None:
        rows = [one for one in rows if one.row.variant.threads == request.threads]
    refused = {
        id(one): "measured in an emulator" if one.summary.session.emulated else _refusal(request, one.row)
        for one in rows
    }
    fitting = [one for one in rows if not refused[id(one)]]
    best = max((_miou(one) for one in fitting), default=0.0)
    equal = [one for one in fitting if best - _miou(one) < EQUAL_MIOU]
    chosen = min(equal, key=_latency, default=None)
    others = [one for one in rows if one is not chosen]
    others.sort(key=lambda one: (bool(refused[id(one)]), best - _miou(one) >= EQUAL_MIOU, _latency(one)))
    return PickResult(
        _candidate(chosen, "") if chosen else None,
        tuple(_candidate(one, refused[id(one)] or _behind(one, chosen, best)) for one in others),
    )


def _refusal(request: PickRequest, row: Row) -> str:
    """Why a variant is out of the question; empty if it is not."""
    if row.latency is None:
        return row.failure.reason if row.failure else "its latency was not measured"
    if request.max_ms is not None:
        high = (row.latency.median.high if row.latency.median else row.latency.median_ns) / 1e6
        if high > request.max_ms:
            middle = row.latency.median_ns / 1e6
            if middle > request.max_ms:
                return f"too slow: {middle:.2f} ms, {request.max_ms:g} ms asked"
            return f"perhaps too slow: {middle:.2f} ms, but the interval reaches {high:.2f} ms, {request.max_ms:g} ms asked"
    if request.max_bytes is not None and row.variant.size_bytes > request.max_bytes:
        return f"too large: {row.variant.size_bytes / 1e6:.2f} MB, {request.max_bytes / 1e6:g} MB asked"
    if request.min_miou is not None:
        if row.scores is None:
            return "its mIoU was not measured"
        if row.scores.miou < request.min_miou:
            return f"mIoU {row.scores.miou:.4f}, {request.min_miou:g} asked"
    return ""


def _behind(one: Latest, chosen: Latest | None, best: float) -> str:
    """Why a variant within the limits was not chosen."""
    assert chosen is not None
    lost = best - _miou(one)
    if lost >= EQUAL_MIOU:
        return f"{100 * lost:.2f} points less mIoU"
    return f"masks as good, {_latency(one) / _latency(chosen):.2f} times as slow"


def _miou(one: Latest) -> float:
    return one.row.scores.miou if one.row.scores else 0.0


def _latency(one: Latest) -> float:
    return one.row.latency.median_ns if one.row.latency else float("inf")


def _candidate(one: Latest, why_not: str) -> Candidate:
    row = one.row
    return Candidate(
        artifact=row.variant.artifact,
        variant=row.variant.key,
        device=one.device,
        threads=row.variant.threads,
        median_ms=row.latency.median_ns / 1e6 if row.latency else None,
        miou=row.scores.miou if row.scores else None,
        size_bytes=row.variant.size_bytes,
        why_not=why_not,
        doubts=tuple(label.name for label in row.labels if label.doubtful),
        labels=tuple(name for name in row.shown_labels if name in integers.NAMES),
    )
