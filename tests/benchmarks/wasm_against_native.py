"""How much slower is WebAssembly than native, one thread each: `python tests/benchmarks/wasm_against_native.py ARTIFACT…`.

Every round asks the worker on this machine and the page in a headless Chromium for a few runs of each artifact, in an
order that changes from round to round; the ratio is taken round by round. Not collected by pytest: figures of a shared
machine prove nothing to a test.
"""

from __future__ import annotations

import argparse
import queue
import shutil
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from edgeseg.core import manifest
from edgeseg.core.job import Command
from edgeseg.core.measurement import Failed, Slice
from edgeseg.data.dataset import open_dataset
from edgeseg.devices.browser import Phone, Reception
from edgeseg.devices.cpu import CpuDevice
from edgeseg.flows.bench.variants import variants


def median_of(worker, key: str, runs: int) -> float:
    """The median of a few runs, in ms."""
    (answer,) = worker.ask(Command("measure", key, runs=runs, warmups=1, around=0), timeout_s=120)
    if not isinstance(answer, Slice):
        raise SystemExit(f"{key}: {answer}")
    return float(np.median(answer.infer_ns)) / 1e6


def main() -> None:
    """Print one line per artifact."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    mates = variants([manifest.read(folder) for folder in given.artifacts], (1,))
    frames = [sample.image for sample in open_dataset("sample:4").stream()]
    arrivals: queue.Queue[Phone] = queue.Queue()
    about = {"threads": [1], "budget_s": 60, "images": 0}
    with Reception([], about, arrived=arrivals.put) as reception, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page()
        page.goto(reception.invitation.link)
        page.click("#start")
        phone = arrivals.get(timeout=60)
        items = [(mate.item, mate.artifact.folder) for mate in mates]
        workers = {}
        for mate, item in zip(mates, items, strict=True):
            for name, device in (("native", CpuDevice()), ("page", phone)):
                worker = device.start([item], frames, timeout_s=60)
                for answer in worker.ask(Command("load", mate.variant.key), timeout_s=120):
                    if isinstance(answer, Failed):
                        raise SystemExit(f"{mate.variant.key}: {answer.reason}")
                workers[name, mate.variant.key] = worker
        random = np.random.default_rng(1)
        keys = list(workers)
        taken: dict[tuple[str, str], list[float]] = {key: [] for key in keys}
        for round_number in range(given.rounds + 1):
            for index in random.permutation(len(keys)):
                value = median_of(workers[keys[index]], keys[index][1], given.runs)
                if round_number:  # the first round runs everything in
                    taken[keys[index]].append(value)
        for worker in workers.values():
            worker.close()
        chromium.close()
    for mate in mates:
        native, page_ms = (np.array(taken[name, mate.variant.key]) for name in ("native", "page"))
        ratios = page_ms / native
        draws = np.median(ratios[random.integers(0, len(ratios), (2000, len(ratios)))], axis=1)
        low, high = np.percentile(draws, (2.5, 97.5))
        print(
            f"{mate.variant.key}: native {np.median(native):.2f} ms, page {np.median(page_ms):.2f} ms, "
            f"ratio {np.median(ratios):.2f} [{low:.2f}, {high:.2f}]"
        )


if __name__ == "__main__":
    main()
