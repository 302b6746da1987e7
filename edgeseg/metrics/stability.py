"""Checks of a measurement, each ending in advice that fits the flags in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeseg.core import throttling
from edgeseg.core.measurement import Conditions
from edgeseg.metrics.latency import MIN_LOADS, Latency

UNSTABLE = 0.10
"""Quartile distance of the rounds' medians, relative to the median."""
BACKGROUND = 0.05
"""Share of all cores' time that other processes took."""
DRIFT = 0.05
CLOCK = 0.05
WARMED_C = 10.0
FEW_ROUNDS = 10
SLOW_FIRST = 10.0
"""First run against the median."""


@dataclass(frozen=True)
class Label:
    """Something about a measurement that its reader should know.

    Attributes:
        name: One or two words, for a table.
        text: What was seen, with figures.
        advice: What to do.
        doubtful: Whether the latency itself is in doubt; otherwise the label is a remark.
    """

    name: str
    text: str
    advice: str
    doubtful: bool = True


@dataclass(frozen=True)
class Flags:
    """What the user asked for, as far as advice depends on it."""

    budget_s: float
    threads: int
    cores: int
    stopped: str = "budget"
    """``narrow``, ``budget`` or ``interrupted``."""


def check(
    latency: Latency,
    medians: Sequence[float],
    conditions: Sequence[Conditions],
    flags: Flags,
    *,
    first_ns: int | None = None,
    loads: int = MIN_LOADS,
) -> tuple[Label, ...]:
    """What is doubtful about one variant's latency.

    Args:
        latency: The summary.
        medians: The median of each round, in the order of measuring.
        conditions: Of each round's slice.
        flags: What the user asked for.
        first_ns: The first run after loading.
        loads: How often it was loaded.
    """
    found = []
    background = _median([one.background for one in conditions])
    busy = background is not None and background > BACKGROUND
    if latency.rounds < FEW_ROUNDS:
        more = (
            "let it run to its end"
            if flags.stopped == "interrupted"
            else f"--budget {max(30, 3 * flags.budget_s):g}, or fewer artifacts at a time"
        )
        found.append(Label("few rounds", f"only {latency.rounds} rounds of {latency.samples} runs in all", more))
    elif loads < MIN_LOADS:
        text = f"it was loaded {loads} times only: the intervals do not know what differs from load to load"
        found.append(Label("few loads", text, f"--budget {max(30, 3 * flags.budget_s):g}", doubtful=False))
    if busy:
        assert background is not None
        freer = (
            f"close other programs, or --threads {flags.threads - 1}: "
            f"{flags.threads} threads on {flags.cores} cores leave nothing for them"
            if flags.threads > 1 and flags.threads >= flags.cores
            else "close other programs and measure again"
        )
        found.append(Label("background load", f"other processes took {100 * background:.0f} % of the processor", freer))
    found += _unsteady(latency, medians, busy, flags)
    found += _machine(conditions)
    if first_ns is not None and first_ns > SLOW_FIRST * latency.median_ns and first_ns > 50e6:
        found.append(
            Label(
                "slow first run",
                f"the first run took {first_ns / 1e6:.0f} ms, {first_ns / latency.median_ns:.0f} times the median",
                "run once before the first picture that matters",
                doubtful=False,
            )
        )
    return tuple(found)


def throttle_labels(conditions: Sequence[Conditions], before: Conditions) -> tuple[Label, ...]:
    """Whether the device held its clock down, or had too little power, during a run.

    Args:
        conditions: Of each round's slice.
        before: When the session began; a Raspberry Pi remembers what has happened since it was started.
    """
    flags = [one.throttle_flags for one in conditions if one.throttle_flags is not None]
    first = before.throttle_flags or 0
    names = dict.fromkeys(name for value in flags for name in throttling.came_on(first, value))
    advice = "cool it, or give it a stronger power supply"
    if names:
        return (Label("throttled", f"{', '.join(names)} (get_throttled {first:#x}, then {flags[-1]:#x})", advice),)
    if any(one.throttled for one in conditions):
        return (Label("throttled", "the processor held its clock down", advice),)
    return ()


def _unsteady(latency: Latency, medians: Sequence[float], busy: bool, flags: Flags) -> list[Label]:
    if len(medians) < 4:
        return []
    found = []
    values = np.asarray(medians, np.float64)
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    if (high - low) / middle > UNSTABLE:
        calmer = (
            "close other programs first"
            if busy
            else f"--budget {2 * flags.budget_s:g}, on mains power, with the performance governor"
        )
        found.append(Label("unstable", f"half of the rounds lie {100 * (high - low) / middle:.0f} % apart", calmer))
    third = len(values) // 3
    if third >= 3:
        moved = float(np.median(values[-third:]) / np.median(values[:third])) - 1
        # A drift that the noise alone would make is no drift: the change has to stand out of the rounds' own spread.
        if abs(moved) > max(DRIFT, 2 * float(high - low) / middle / third**0.5):
            found.append(
                Label(
                    "drift",
                    f"the last third of the rounds was {100 * abs(moved):.0f} % {'slower' if moved > 0 else 'faster'} than the first",
                    "--sustain 10m shows where it settles"
                    if moved > 0
                    else "measure again: the machine was not yet idle",
                )
            )
    return found


def _machine(conditions: Sequence[Conditions]) -> list[Label]:
    found = []
    clocks = [one.frequency_mhz for one in conditions if one.frequency_mhz is not None]
    if len(clocks) >= 3:
        low, high = np.quantile(clocks, (0.1, 0.9))
        if (high - low) / high > CLOCK:
            found.append(
                Label(
                    "clock moved",
                    f"the clock went from {low:.0f} to {high:.0f} MHz",
                    "set the governor: sudo cpupower frequency-set -g performance",
                )
            )
    heat = [one.temperature_c for one in conditions if one.temperature_c is not None]
    if heat and max(heat) - heat[0] > WARMED_C:
        found.append(
            Label(
                "warmed up",
                f"the processor went from {heat[0]:.0f} to {max(heat):.0f} °C",
                "--sustain 10m shows what it costs in the long run",
            )
        )
    return found


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
