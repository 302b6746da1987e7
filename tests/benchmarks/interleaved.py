"""Sessions side by side in rounds whose order changes, so that a machine that slows down hits all alike."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from edgeseg.core.backend import Session
from edgeseg.core.spec import ModelSpec

CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}
"""The CPU time of the calling thread, in which one-threaded runtimes work, leaves out what others take of the machine."""


def measure(sessions: Sequence[Session], spec: ModelSpec, rounds: int, repeats: int, clock: str) -> np.ndarray:
    """Nanoseconds [sessions, rounds]: the least of `repeats` runs on noise of the input's shape."""
    now = CLOCKS[clock]
    feeds = {spec.input_name: np.random.default_rng(0).normal(size=spec.input_shape).astype(np.float32)}
    for session in sessions:
        for _ in range(5):
            session.run(feeds)
    taken = np.zeros((len(sessions), rounds))
    order = np.random.default_rng(1)
    for turn in range(rounds):
        for index in order.permutation(len(sessions)):
            samples = []
            for _ in range(repeats):
                start = now()
                sessions[index].run(feeds)
                samples.append(now() - start)
            taken[index, turn] = min(samples)
    return taken


def ratio(row: np.ndarray, base: np.ndarray) -> str:
    """Median of the paired ratios, with a bootstrap interval over the rounds."""
    ratios = row / base
    draws = np.random.default_rng(2).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return f"{np.median(ratios):.3f} [{low:.3f}, {high:.3f}]"
