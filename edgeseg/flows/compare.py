"""Two result sets: what became faster, slower, better, worse, and what cannot be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import EdgesegError
from edgeseg.flows.bench import latest
from edgeseg.flows.bench.latest import Latest
from edgeseg.metrics.latency import Interval, independent_ratio


@dataclass(frozen=True)
class CompareRequest:
    """What to compare.

    Attributes:
        before: A results file or folder.
        after: Another one.
        tolerance: Changes of latency up to this share are not called one: two sessions never meet the same machine.
        max_drop: How much dataset mIoU may be lost.
        relative: Compare latencies as ratios to each session's baseline, which takes out what changed for all alike.
        across_devices: Allow results of different devices.
    """

    before: Path
    after: Path
    tolerance: float = 0.02
    max_drop: float = 0.001
    relative: bool = False
    across_devices: bool = False


@dataclass(frozen=True)
class Change:
    """One variant in both sets; None = not measured in one of them.

    Attributes:
        variant: Its key.
        before_ms: Median latency.
        after_ms: Median latency.
        ratio: After against before.
        verdict: ``faster``, ``slower`` or ``cannot tell``.
        miou_change: Dataset mIoU after minus before, where the pictures are the same.
        worse: Whether mIoU fell by more than is allowed.
        lost: Whether it was measured before and failed after.
        doubts: Labels of either measurement.
    """

    variant: str
    before_ms: float | None
    after_ms: float | None
    ratio: Interval | None
    verdict: str
    miou_change: float | None
    worse: bool
    lost: bool
    doubts: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Whether it became slower or worse, or cannot be measured any more."""
        return self.worse or self.lost or self.verdict == "slower"


@dataclass(frozen=True)
class CompareResult:
    """All variants that both sets have, and those that one lacks."""

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Whether any variant regressed."""
        return any(change.regressed for change in self.changes)


def compare(request: CompareRequest) -> CompareResult:
    """Compare the newest figures of each variant.

    Raises:
        EdgesegError: The results cannot be read, are of different devices, or have no variant in common.
    """
    before, after = latest.read([request.before]), latest.read([request.after])
    if not request.across_devices and not set(before.devices()) & set(after.devices()):
        raise EdgesegError(
            f"{request.before} was measured on {', '.join(before.devices())}, "
            f"{request.after} on {', '.join(after.devices())}",
            "--across-devices compares them all the same",
        )

    def key(one: Latest) -> tuple[str, str]:
        return ("" if request.across_devices else one.device, one.row.variant.key)

    old, new = ({key(one): one for one in found.rows} for found in (before, after))
    both = [name for name in old if name in new]
    if not both:
        raise EdgesegError(
            f"{request.before} and {request.after} have no variant in common",
            f"the first has {', '.join(name for _, name in old)}",
        )
    return CompareResult(
        tuple(_change(request, old[name], new[name]) for name in both),
        tuple(name for device, name in old if (device, name) not in new),
        tuple(name for device, name in new if (device, name) not in old),
        tuple(map(str, (*before.bad, *after.bad))) + before.skipped + after.skipped,
    )


def _change(request: CompareRequest, old: Latest, new: Latest) -> Change:
    before, after = old.row, new.row
    ratio = None
    if request.relative:
        ratio = _relative(before.ratio, after.ratio)
    elif before.rounds and after.rounds:
        ratio = independent_ratio(after.resampled, before.resampled)
    miou_change = None
    if before.scores is not None and after.scores is not None and _pictures(old) == _pictures(new):
        miou_change = after.scores.miou - before.scores.miou
    doubts = tuple(dict.fromkeys(label.name for row in (before, after) for label in row.labels if label.doubtful))
    if after.failure is not None:
        doubts = (f"failed: {after.failure.reason}", *doubts)
    return Change(
        variant=after.variant.key,
        before_ms=before.latency.median_ns / 1e6 if before.latency else None,
        after_ms=after.latency.median_ns / 1e6 if after.latency else None,
        ratio=ratio,
        verdict=_verdict(ratio, request.tolerance),
        miou_change=miou_change,
        worse=miou_change is not None and miou_change < -request.max_drop,
        lost=before.failure is None and after.failure is not None,
        doubts=doubts,
    )


def _pictures(one: Latest) -> tuple[str, int]:
    """What the masks of a row were judged on."""
    session = one.summary.session
    return session.data, session.images


def _relative(before: Interval | None, after: Interval | None) -> Interval | None:
    """The ratio of two ratios; the logarithms' half-widths add as independent errors do."""
    if before is None or after is None:
        return None
    value = after.value / before.value
    low = math.hypot(math.log(after.value / after.low), math.log(before.high / before.value))
    high = math.hypot(math.log(after.high / after.value), math.log(before.value / before.low))
    return Interval(value, value * math.exp(-low), value * math.exp(high))


def _verdict(ratio: Interval | None, tolerance: float) -> str:
    """A change counts when the interval excludes 1 and the estimate lies beyond the tolerance."""
    if ratio is None or ratio.contains(1.0) or 1 / (1 + tolerance) <= ratio.value <= 1 + tolerance:
        return "cannot tell"
    return "slower" if ratio.value > 1 else "faster"
