"""Latency statistics: medians and quantiles with intervals, and paired ratios. Numpy only.

Samples come in rounds: each round measures every variant once, in random order, a slice of runs at a time. Runs of one
slice share the machine's mood, so the round and not the run is what is resampled and paired.

Rounds come in loads: every few rounds all variants are loaded anew, because where a model's memory comes to lie makes the
same file some per cent faster or slower for as long as it stays loaded. With enough loads the load is what is resampled;
otherwise intervals would be narrow around the luck of one load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeseg.core.arrays import Array

BEYOND = 10
"""A quantile is given when at least so many samples are expected beyond it: p90 from 100 samples, p99 from 1000."""

MIN_ROUNDS = 6
"""Fewer rounds cannot give a 95 % interval: the signed-rank interval of 5 pairs covers 93.75 % at most."""

MIN_LOADS = 6
"""With fewer loads the intervals are over rounds and do not know what differs from load to load."""

_Z = 1.959964

_MOST = 200_000
"""Samples above which each round is thinned to evenly spaced ones of its order: quantiles stay, and a bench of a network that
does next to nothing is summed up in seconds."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half of the interval's width, relative to the estimate."""
        return (self.high - self.low) / (2 * self.value) if self.value else math.inf

    def contains(self, value: float) -> bool:
        """Whether `value` lies in the interval, ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Latency:
    """Samples of one variant, in ns; a quantile is None where the samples do not support it.

    Attributes:
        samples: How many runs.
        rounds: In how many rounds.
        median: With an interval from 2 rounds on (None: one round).
        p90: With its interval.
        p99: With its interval.
    """

    samples: int
    rounds: int
    median_ns: float
    median: Interval | None
    p90: Interval | None
    p99: Interval | None


def supported(quantile: float, samples: int) -> bool:
    """Whether so many samples can say where a quantile lies."""
    return samples * (1 - quantile) >= BEYOND - 1e-9


def summarize(rounds: Sequence[Sequence[int]], *, seed: int = 0, draws: int = 400) -> Latency:
    """Median and quantiles of all samples, with bootstrap intervals over rounds.

    Args:
        rounds: Samples in ns, by round; empty rounds are left out.
        seed: Of the bootstrap.
        draws: Bootstrap resamples.

    Raises:
        ValueError: There is no sample.
    """
    kept = [np.asarray(samples, np.float64) for samples in rounds if len(samples)]
    if not kept:
        raise ValueError("no samples")
    count = sum(samples.size for samples in kept)
    kept = _thinned(kept, count)
    pooled = np.concatenate(kept)
    wanted = [q for q in (0.5, 0.9, 0.99) if q == 0.5 or supported(q, count)]
    intervals: dict[float, Interval] = {}
    if len(kept) > 1:
        resampled = _cluster_bootstrap(kept, pooled, wanted, seed=seed, draws=draws)
        for q, values in zip(wanted, resampled, strict=True):
            low, high = np.quantile(values, (0.025, 0.975))
            value = float(np.quantile(pooled, q))
            intervals[q] = Interval(value, min(float(low), value), max(float(high), value))
    return Latency(
        samples=count,
        rounds=len(kept),
        median_ns=float(np.median(pooled)),
        median=intervals.get(0.5),
        p90=intervals.get(0.9),
        p99=intervals.get(0.99),
    )


def _thinned(kept: list[Array], count: int) -> list[Array]:
    return kept if count <= _MOST else [_evenly(samples, count / _MOST) for samples in kept]


def _evenly(samples: Array, step: float) -> Array:
    """One of `step` samples, evenly spaced in their order."""
    left = max(1, round(samples.size / step))
    return np.sort(samples)[((np.arange(left) + 0.5) * samples.size / left).astype(np.intp)]


def _cluster_bootstrap(kept: list[Array], pooled: Array, quantiles: list[float], *, seed: int, draws: int) -> Array:
    """[quantiles, draws]: quantiles of samples whose rounds are drawn with replacement.

    The pooled samples are sorted once; a draw only changes how often each counts.
    """
    owner = np.repeat(np.arange(len(kept)), [samples.size for samples in kept])
    order = np.argsort(pooled, kind="stable")
    values, owner = pooled[order], owner[order]
    random = np.random.default_rng(seed)
    found = np.empty((len(quantiles), draws))
    for draw in range(draws):
        counts = np.bincount(random.integers(0, len(kept), len(kept)), minlength=len(kept))
        reached = np.cumsum(counts[owner])
        for index, q in enumerate(quantiles):
            found[index, draw] = values[min(np.searchsorted(reached, q * reached[-1]), values.size - 1)]
    return found


def paired_ratio(
    numerators: Sequence[float], denominators: Sequence[float], loads: Sequence[int] = ()
) -> Interval | None:
    """The ratio of two variants that were measured in the same rounds, with its 95 % interval.

    From `MIN_LOADS` loads on, the median of the rounds' log ratios, and Student's interval with the deviation that it has when
    whole loads are drawn anew (a cluster bootstrap): what differs from load to load is in it, and a median does not mind the
    few rounds in which something else took the processor. In 40 sessions beside a core that was kept busy its intervals were
    a fifth narrower than those by ranks of the loads' medians, and left out the truth 2 times where those did 3 times.
    Source: Davison, Hinkley, "Bootstrap Methods and their Application", 1997, sections 2.4 and 3.8.

    With fewer loads, the Hodges-Lehmann estimate of the rounds' log ratios and the interval of the Wilcoxon signed-rank test:
    it holds its level for few rounds and any symmetric noise; and equal variants have symmetric log ratios by construction,
    because the order in a round is random.
    Source: Hollander, Wolfe, Chicken, "Nonparametric Statistical Methods", 3rd ed., 2014, section 3.2 and 3.3.

    Args:
        numerators: One figure a round (the median of its slice).
        denominators: The same rounds of the other variant.
        loads: The load that each round belongs to.

    Returns:
        None with fewer than `MIN_ROUNDS` rounds.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} and {len(denominators)} rounds are no pairs")
    if len(numerators) < MIN_ROUNDS:
        return None
    logs = np.log(np.asarray(numerators, np.float64)) - np.log(np.asarray(denominators, np.float64))
    if len(set(loads)) >= MIN_LOADS:
        value, half = _by_loads(logs, np.asarray(loads))
        return Interval(math.exp(value), math.exp(value - half), math.exp(value + half))
    if logs.size > 1000:  # neighbours taken together: the table of all pairs below grows with the square
        step = -(-logs.size // 1000)
        logs = logs[: logs.size // step * step].reshape(-1, step).mean(axis=1)
    n = logs.size
    first, second = np.triu_indices(n)
    walsh = np.sort((logs[first] + logs[second]) / 2)
    mean, deviation = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    cut = max(0, math.floor(mean - _Z * deviation - 0.5))
    return Interval(
        math.exp(float(np.median(walsh))), math.exp(float(walsh[cut])), math.exp(float(walsh[walsh.size - 1 - cut]))
    )


def _by_loads(logs: Array, loads: Array) -> tuple[float, float]:
    """The median of all log ratios, and half of its 95 % interval."""
    groups = [logs[loads == load] for load in np.unique(loads)]
    medians = _cluster_bootstrap(groups, np.concatenate(groups), [0.5], seed=0, draws=400)[0]
    count = len(groups)
    # Drawn with replacement, `count` loads vary by (count - 1) / count of what they would.
    return float(np.median(logs)), _student(count - 1) * float(medians.std()) * math.sqrt(count / (count - 1))


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution, to 0.5 % from 5 degrees of freedom on.

    Source: Abramowitz, Stegun, "Handbook of Mathematical Functions", 1964, formula 26.7.5.
    """
    z = _Z
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def independent_ratio(
    numerators: Sequence[Sequence[int]], denominators: Sequence[Sequence[int]], *, seed: int = 0, draws: int = 1000
) -> Interval | None:
    """The ratio of the medians of two variants that were measured at different times.

    Bootstrap over the rounds of each side on its own. What changed on the machine between the two times is in the
    ratio, and no interval can know of it.

    Returns:
        None with fewer than `MIN_ROUNDS` rounds on a side.
    """
    sides = [
        [np.asarray(samples, np.float64) for samples in side if len(samples)] for side in (numerators, denominators)
    ]
    if min(map(len, sides)) < MIN_ROUNDS:
        return None
    medians = []
    for index, side in enumerate(sides):
        pooled = np.concatenate(side)
        medians.append(_cluster_bootstrap(side, pooled, [0.5], seed=seed + index, draws=draws)[0])
    value = float(np.median(np.concatenate(sides[0])) / np.median(np.concatenate(sides[1])))
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    return Interval(value, min(float(low), value), max(float(high), value))


def verdict(ratio: Interval | None) -> str:
    """``faster``, ``slower`` or ``cannot tell``, of a latency ratio: only what the interval says."""
    if ratio is None or ratio.contains(1.0):
        return "cannot tell"
    return "slower" if ratio.value > 1 else "faster"


def bootstrap_mean(values: Sequence[float], *, seed: int = 0, draws: int = 1000) -> Interval | None:
    """A mean with its bootstrap interval; None for fewer than 2 values."""
    array = np.asarray(values, np.float64)
    if array.size < 2:
        return None
    random = np.random.default_rng(seed)
    # One draw at a time: all at once would take 16 kB a value.
    means = [array[random.integers(0, array.size, array.size)].mean() for _ in range(draws)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(array.mean()), float(low), float(high))
