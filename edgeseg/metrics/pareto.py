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


def frontier(points: Sequence[Point]) -> list[bool]:
    """Which points no other point beats on both axes, by their estimates; equal points do not beat each other."""
    return [not any(_beats(other, one) for other in points) for one in points]


def contested(points: Sequence[Point]) -> list[bool]:
    """Which points are off the frontier, but could be on it by their latency's interval.

    A point is surely beaten by one that is at least as good in quality and whose whole latency interval lies below its
    own. Quality is compared by the estimates: the same pictures were used for all, so its interval is common to them.
    """
    on = frontier(points)
    return [
        not on[index]
        and not any(other.value >= one.value and other.cost_high < one.cost_low for other in points if other is not one)
        for index, one in enumerate(points)
    ]


def _beats(one: Point, other: Point) -> bool:
    no_worse = one.cost <= other.cost and one.value >= other.value
    return no_worse and (one.cost < other.cost or one.value > other.value)
