"""The timed rounds: each measures every variant once, in an order that is drawn anew; every few rounds all are reloaded."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeseg.flows.bench.crew import Crew, Mate
from edgeseg.flows.bench.results import Round
from edgeseg.flows.bench.rows import ratio_to, resampled
from edgeseg.metrics.latency import MIN_LOADS, summarize

SLICE_S = 0.01
"""A slice is short, so that what the machine does meanwhile hits all variants of a round alike. Beside a process whose load
changes, runs that follow each other are alike (correlation 0.9) and a second one in the same slice tells next to nothing:
for a network of 28 ms, rounds of one run without a warm-up gave ratios with a third of the interval that rounds of a warm-up
and two runs gave in the same time."""
LONGEST_S = 0.05
"""No slice is made longer than this to make up for a slow network."""
NARROW_MEDIAN = 0.01
"""Timing ends early when half of each median's interval is narrower than this share of it,"""
NARROW_RATIO = 0.0075
"""and half of each ratio's interval than this."""
AROUND_EVERY = 4
"""Pre- and post-processing are timed in every fourth round only: they cost a run each, and are the same for most rows."""
LOADS = 12
"""All variants are loaded anew so often within the budget,"""
LOADING_SHARE = 1 / 3
"""or less often, so that loading takes at most this share of it."""


@dataclass(frozen=True)
class Plan:
    """How to time.

    Attributes:
        budget_s: Wall-clock time for the rounds.
        baseline: Key of the variant that the others are compared with.
        seed: Of the order within the rounds.
        first: Number of the first round; above 0 when a session is resumed.
        load: Number of the first load.
        earlier: The rounds of the session so far.
    """

    budget_s: float
    baseline: str
    seed: int
    first: int = 0
    load: int = 0
    earlier: tuple[Round, ...] = ()


def run(
    crew: Crew, plan: Plan, *, keep: Callable[[Round], None], progress: Callable[[float], None] = lambda share: None
) -> str:
    """Time what is alive in the crew.

    Args:
        crew: The workers.
        plan: How.
        keep: Told of each slice at once.
        progress: Told the share of the budget that is spent.

    Returns:
        Why it ended: ``narrow`` or ``budget``.
    """
    shuffle = random.Random(f"{plan.seed}/{plan.first}")  # noqa: S311 - an order, not a secret
    counts = {mate.variant.key: _calibrate(crew, mate) for mate in crew.alive}
    started = (
        time.monotonic()
    )  # loading and calibrating are no part of the budget: a slow start must not eat the rounds
    rounds: dict[str, dict[int, Round]] = {mate.variant.key: {} for mate in crew.alive}
    for one in plan.earlier:
        rounds.setdefault(one.slice.item, {})[one.number] = one
    number, load = plan.first, plan.load
    spent = 0.0
    due_s, fresh = plan.budget_s / LOADS, False  # the calibration has warmed them up
    # At least one round is measured however small the budget is: a table without a figure helps nobody.
    while crew.alive and (spent < plan.budget_s or number == plan.first):
        if spent >= due_s:
            if _narrow([mate.variant.key for mate in crew.alive], rounds, plan):
                return "narrow"
            load += 1
            took_s = _reload(crew, shuffle)
            due_s = spent + took_s + max(plan.budget_s / LOADS - took_s, took_s * (1 / LOADING_SHARE - 1))
            fresh = True
        mates = crew.alive
        shuffle.shuffle(mates)
        for mate in mates:
            runs, warmups, expected_s = counts[mate.variant.key]
            warmups += fresh and not warmups  # what was just loaded has run once only
            around = 1 if number % AROUND_EVERY == 0 else 0
            measured = crew.measure(mate, runs=runs, warmups=warmups, around=around, expected_s=expected_s)
            if measured is not None:
                kept = Round(number, load, measured)
                rounds[mate.variant.key][number] = kept
                keep(kept)
            spent = time.monotonic() - started
            progress(min(1.0, spent / plan.budget_s) if plan.budget_s else 1.0)
            if spent >= plan.budget_s and number > plan.first:
                break  # the rest of this round has no partner for this slice, and the pairing leaves it out
        number, fresh = number + 1, False
    return "budget"


def _reload(crew: Crew, shuffle: random.Random) -> float:
    """Load everything anew, in an order that is drawn anew; returns the seconds that it took."""
    started = time.monotonic()
    mates = crew.alive
    shuffle.shuffle(mates)
    for mate in mates:
        crew.reload(mate)
    return time.monotonic() - started


def _calibrate(crew: Crew, mate: Mate) -> tuple[int, int, float]:
    """Runs and warm-ups of a slice, and how long it should take."""
    asked = time.monotonic()
    measured = crew.measure(mate, runs=3, warmups=2, around=1)
    took_s = time.monotonic() - asked
    if measured is None:
        return 1, 1, 0.0
    each = max(1e-6, float(np.median(measured.infer_ns)) / 1e9)
    around = (measured.prepare_ns[0] + measured.finish_ns[0]) / 1e9 if measured.prepare_ns else 0.0
    worked_s = (sum(measured.warmup_ns) + sum(measured.infer_ns)) / 1e9 + each + around
    runs, warmups = slice_of(each, took_s - worked_s)
    return runs, warmups, (runs + warmups + 1) * each + around


def slice_of(each_s: float, asking_s: float = 0.0) -> tuple[int, int]:
    """Runs and warm-ups of a slice.

    Args:
        each_s: How long a run takes.
        asking_s: How long the way to the device and back takes: a slice is as long, up to `LONGEST_S`, so that a bench over a
            slow network does not only wait.
    """
    runs = min(500, max(1, round(min(max(SLICE_S, asking_s), LONGEST_S) / each_s)))
    # To fill the caches again costs a share of a short run, and nothing that counts of one that is as long as a slice.
    return runs, min(20, max(1, round(0.1 * runs))) if each_s < SLICE_S else 0


def _narrow(keys: list[str], rounds: dict[str, dict[int, Round]], plan: Plan) -> bool:
    """Whether there are enough loads, and all intervals are narrow enough to stop."""
    for key in keys:
        own = [one for _, one in sorted(rounds[key].items())]
        if len({one.load for one in own}) < MIN_LOADS:
            return False
        median = summarize(resampled(own), draws=100).median
        if median is None or median.spread > NARROW_MEDIAN:
            return False
        ratio = ratio_to(rounds[key], rounds.get(plan.baseline, {}))
        if key != plan.baseline and (ratio is None or ratio.spread > NARROW_RATIO):
            return False
    return True
