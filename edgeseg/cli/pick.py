"""Name the artifact to ship on a device, and why not the others."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeseg.cli import _output


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg pick``."""
    add = parser.add_argument
    add("results", nargs="*", type=Path, metavar="RESULTS", help="files or folders of results (default: bench/results)")
    add("--device", default="cpu", metavar="NAME", help="cpu, pi, … or a folder below bench/results (default: cpu)")
    add("--max-ms", type=float, metavar="MS", help="limit for the median latency of the network")
    add("--min-miou", type=float, metavar="X", help="limit for dataset mIoU, 0 to 1")
    add("--max-mb", type=float, metavar="MB", help="limit for the size of the artifact")
    add("--threads", type=int, metavar="N", help="only variants with so many threads")


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg pick``."""
    from edgeseg.flows.bench.session import RESULTS
    from edgeseg.flows.pick import PickRequest, pick

    result = pick(
        PickRequest(
            tuple(arguments.results) or (RESULTS,),
            device=arguments.device,
            max_ms=arguments.max_ms,
            min_miou=arguments.min_miou,
            max_bytes=None if arguments.max_mb is None else round(arguments.max_mb * 1e6),
            threads=arguments.threads,
        )
    )
    if arguments.json:
        _output.json(result)
        return 0 if result.chosen else 3
    table = _output.Table("", "threads>", "median ms>", "mIoU>", "MB>", "why not", title="the artifact to ship")
    for one in (*([result.chosen] if result.chosen else []), *result.others):
        chosen = one is result.chosen
        table.row(
            f"{'✓' if chosen else ' '} {one.artifact}",
            str(one.threads),
            "-" if one.median_ms is None else f"{one.median_ms:.2f}",
            "-" if one.miou is None else f"{one.miou:.4f}",
            f"{one.size_bytes / 1e6:.2f}",
            "; ".join(filter(None, (one.why_not, *one.labels))),
            state="good" if chosen else "soft",
        )
    table.show()
    if result.chosen is None:
        _output.complain("no artifact is within the limits", "loosen a limit, or edgeseg export another precision")
        return 3
    for label in result.chosen.labels:
        _output.note(f"the chosen one is INT8, but {label}")
    if result.chosen.doubts:
        _output.note(f"the chosen one's latency is doubtful: {', '.join(result.chosen.doubts)}")
    return 0
