"""Compare the latency of TFLite files in one interleaved run: `python tests/benchmarks/tflite_latency.py A B [C …]`.

Every round runs each file a few times, in an order that changes from round to round, so that a machine that slows down
hits all alike. The ratio of each file to the first is taken round by round; its interval is a bootstrap over rounds.
Not collected by pytest: figures of a shared machine prove nothing to a test.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from edgeseg.backends.tflite.runtime import TfliteSession


def feeds(session: TfliteSession) -> dict[str, np.ndarray]:
    """Random inputs for a file."""
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(tuple(detail["shape"])).astype(detail["dtype"])
        for name, detail in session.inputs.items()
    }


def measure(files: list[Path], rounds: int, repeats: int, threads: int) -> np.ndarray:
    """Nanoseconds, [files, rounds]: the median of `repeats` runs."""
    sessions = [TfliteSession(file, threads) for file in files]
    inputs = [feeds(session) for session in sessions]
    for session, given in zip(sessions, inputs, strict=True):
        for _ in range(5):
            session.run(given)
    taken = np.zeros((len(files), rounds))
    rng = np.random.default_rng(1)
    for turn in range(rounds):
        for index in rng.permutation(len(files)):
            samples = []
            for _ in range(repeats):
                start = time.perf_counter_ns()
                sessions[index].run(inputs[index])
                samples.append(time.perf_counter_ns() - start)
            taken[index, turn] = np.median(samples)
    return taken


def main() -> None:
    """Print one line per file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    taken = measure(given.files, given.rounds, given.repeats, given.threads)
    rng = np.random.default_rng(2)
    for file, row in zip(given.files, taken, strict=True):
        ratios = row / taken[0]
        draws = np.median(ratios[rng.integers(0, len(ratios), (2000, len(ratios)))], axis=1)
        low, high = np.percentile(draws, (2.5, 97.5))
        print(
            f"{np.median(row) / 1e6:8.2f} ms   p10 {np.percentile(row, 10) / 1e6:7.2f} ms   "
            f"ratio {np.median(ratios):.3f} [{low:.3f}, {high:.3f}]   {file}"
        )


if __name__ == "__main__":
    main()
