"""The long run: one variant without a pause, summed up a stretch at a time, with clock and temperature."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edgeseg.flows.bench.crew import Crew, Mate
from edgeseg.flows.bench.results import Sustained

STRETCH_S = 60.0
SLICE_S = 1.0


def run(
    crew: Crew,
    mate: Mate,
    seconds: float,
    *,
    keep: Callable[[Sustained], None],
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Run one variant for so many seconds.

    Args:
        crew: The workers; the others sleep.
        mate: The variant.
        seconds: How long. Stretches are of a minute, or of a tenth of `seconds` where that is less than ten minutes.
        keep: Told of each stretch at once.
        progress: Told the share of the time that is over.
    """
    stretch_s = min(STRETCH_S, seconds / 10)
    probe = crew.measure(mate, runs=3, warmups=1)
    if probe is None:
        return
    each = max(1e-6, float(np.median(probe.infer_ns)) / 1e9)
    runs = min(2000, max(1, round(min(SLICE_S, stretch_s / 4) / each)))
    started = time.monotonic()
    index = 0
    while time.monotonic() - started < seconds:
        samples: list[int] = []
        until = started + (index + 1) * stretch_s
        conditions = probe.conditions
        while not samples or time.monotonic() < until:
            measured = crew.measure(mate, runs=runs, warmups=0, expected_s=runs * each)
            if measured is None:
                return
            samples += measured.infer_ns
            conditions = measured.conditions
            progress(min(1.0, (time.monotonic() - started) / seconds))
        keep(
            Sustained(
                item=mate.variant.key,
                index=index,
                seconds=round(time.monotonic() - started, 3),
                runs=len(samples),
                median_ns=float(np.median(samples)),
                p90_ns=float(np.quantile(samples, 0.9)),
                conditions=conditions,
            )
        )
        index += 1
