"""How much `verify` adds to the inference of the reference: decoding, pre- and post-processing, metrics.

    python tests/benchmarks/verify_overhead.py REFERENCE DATA [ROUNDS]

Each round runs, in turn, the reference alone over prepared inputs with all cores, and the whole chain with an artifact
that costs nothing, so that a drifting machine hits both alike. The figure is the median of the paired ratios
(chain - inference) / inference; the bar is one third.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from edgeseg.core import manifest
from edgeseg.data.dataset import open_dataset
from edgeseg.flows.parity import Gate, Lane, compare, plan_lanes
from edgeseg.flows.verify import load_reference


class Echo:
    """Stands for an artifact that costs nothing but its post-processing: answers with what the reference said last."""

    def __init__(self, reference):
        self.spec = reference.spec
        self._reference = reference
        self._infer = reference.infer
        reference.infer = self._remember

    def _remember(self, tensor):
        self.last = self._infer(tensor)
        return self.last

    def takes_the_input_of(self, other):
        return True

    def infer(self, tensor):
        return self.last

    def finish(self, output, height, width):
        return self._reference.finish(output, height, width)


def main() -> None:
    artifact = manifest.read(Path(sys.argv[1]))
    dataset = open_dataset(sys.argv[2]).head(60)
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    alone = load_reference(artifact, threads=0)
    tensors = [alone.prepare(dataset.read(index).image) for index in range(len(dataset))]
    count, threads = plan_lanes()
    lanes = []
    for _ in range(count):
        reference = load_reference(artifact, threads=threads)
        lanes.append(Lane(reference, (("echo", Echo(reference)),)))
    ratios = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        for tensor in tensors:
            alone.infer(tensor)
        inference = time.perf_counter() - started
        started = time.perf_counter()
        compare(dataset.read, len(dataset), lanes, gates=[Gate()] * len(lanes[0].artifacts))
        chain = time.perf_counter() - started
        if number:  # the first round warms up
            ratios.append((chain - inference) / inference)
            each = 1e3 / len(tensors)
            print(f"inference {inference * each:.2f} ms, chain {chain * each:.2f} ms a picture: {ratios[-1]:+.3f}")
    print(f"median of {rounds} paired ratios: {statistics.median(ratios):+.3f} (bar 0.333)")


main()
