"""The frontier of quality and latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One candidate: lower `cost`, with its interval, and higher `value` are better."""

    cost: float
    cost_low: float
    cost_high: float
    value: float


def frontier(points: Sequence[Point], *, tolerance: float = 0.0) -> list[bool]:
    """Which points no other point beats, by their estimates.

    Args:
        points: The candidates.
        tolerance: Values closer than this are as good: so little is no reason to take a costlier point.
    """
    return [not any(_beats(other, one, tolerance) for other in points) for one in points]


def contested(points: Sequence[Point], *, tolerance: float = 0.0) -> list[bool]:
    """Which points are off the frontier, but could be on it by their cost's interval.

    A point is surely beaten by one that is at least as good and whose whole interval lies below its own. Values are
    compared by their estimates: the same pictures were used for all, so what their choice did is common to them.
    """
    on = frontier(points, tolerance=tolerance)
    return [
        not on[index]
        and not any(
            other.value >= one.value - tolerance and other.cost_high < one.cost_low
            for other in points
            if other is not one
        )
        for index, one in enumerate(points)
    ]


def _beats(one: Point, other: Point, tolerance: float) -> bool:
    if one.cost < other.cost:
        return one.value >= other.value - tolerance
    return one.cost == other.cost and one.value > other.value + tolerance
