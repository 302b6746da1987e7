"""The bench's median against that of the runtime's own tool, taken in turn so that a drifting machine hits both alike.

    python tests/benchmarks/bench_against_tools.py ARTIFACT [ROUNDS] [SECONDS]

Each round runs the worker, in the slices in which a bench measures, and the tool (OpenVINO's `benchmark_app`, LiteRT's
`litert-benchmark`) for some time each, with one thread, in random order. The figure is the paired ratio of their medians
with its interval; the bar is 2 %.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgeseg import devices
from edgeseg.core import manifest
from edgeseg.core.job import Command
from edgeseg.flows.bench.timing import slice_of
from edgeseg.flows.bench.variants import variants
from edgeseg.metrics.latency import paired_ratio


def tool(name: str) -> str:
    return shutil.which(name) or str(Path(sys.executable).parent / name)


def openvino(artifact: manifest.Artifact, runs: int) -> float:
    words = [
        "-m",
        str(artifact.model_file),
        "-d",
        "CPU",
        "-api",
        "sync",
        "-hint",
        "none",
        "-nthreads",
        "1",
        "-nstreams",
        "1",
    ]
    if artifact.manifest.precision == "fp32":
        words += ["-infer_precision", "f32"]
    done = subprocess.run(
        [tool("benchmark_app"), *words, "-niter", str(runs)], capture_output=True, text=True, check=True
    )
    return float(re.search(r"Median:\s+([\d.]+) ms", done.stdout)[1])


def tflite(artifact: manifest.Artifact, runs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "r.json"
        words = [
            "--model",
            str(artifact.model_file),
            "--num_threads",
            "1",
            "--num_runs",
            str(runs),
            "--warmup_runs",
            "5",
        ]
        subprocess.run(
            [tool("litert-benchmark"), *words, "--result_json", str(out)], capture_output=True, text=True, check=True
        )
        return median_in(json.loads(out.read_text()))


def median_in(document: dict) -> float:
    """The tool's median in ms, or that of its raw latencies."""
    text = json.dumps(document)
    found = re.search(r'"(?:median|p50)[^"]*":\s*([\d.]+)', text)
    if found is None:
        raise SystemExit(f"no median in the tool's result: {text[:500]}")
    return float(found[1])


def main() -> None:
    artifact = manifest.read(Path(sys.argv[1]).resolve())
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 3.0
    (mate,) = variants([artifact], (1,))
    theirs = {"openvino": openvino, "tflite": tflite}[artifact.manifest.backend]
    ours_ms, tool_ms = [], []
    worker = devices.load("cpu").start([(mate.item, artifact.folder)], (), timeout_s=60)
    key = mate.variant.key
    list(worker.ask(Command("load", key), timeout_s=60))
    (first,) = worker.ask(Command("measure", key, runs=10, warmups=5, around=0), timeout_s=60)
    each_s = float(np.median(first.infer_ns)) / 1e9
    runs, (once, warmups) = max(10, round(seconds / each_s)), slice_of(each_s)

    def ours() -> float:
        taken: list[int] = []
        while len(taken) < runs:
            (measured,) = worker.ask(Command("measure", key, runs=once, warmups=warmups, around=0), timeout_s=600)
            taken.extend(measured.infer_ns)
        return float(np.median(taken)) / 1e6

    for number in range(rounds):
        turns = [(ours_ms, ours), (tool_ms, lambda: theirs(artifact, runs))]
        random.shuffle(turns)
        for kept, measure in turns:
            kept.append(measure())
        print(
            f"round {number}: ours {ours_ms[-1]:.3f} ms, {artifact.manifest.backend}'s tool {tool_ms[-1]:.3f} ms",
            flush=True,
        )
    worker.close()
    ratio = paired_ratio(ours_ms, tool_ms)
    print(
        f"ours / tool: {ratio.value:.3f} [{ratio.low:.3f} … {ratio.high:.3f}] over {rounds} rounds of {runs} runs (bar ±0.02)"
    )


main()
