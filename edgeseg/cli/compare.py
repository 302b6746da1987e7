"""Compare two bench results: faster, slower or cannot tell."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeseg.cli import _output


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg compare``."""
    add = parser.add_argument
    add("before", type=Path, metavar="A", help="a file or folder of results")
    add("after", type=Path, metavar="B", help="another one; exit code 3 if something became slower or worse in it")
    add(
        "--tolerance", type=float, default=2.0, metavar="PERCENT",
        help="changes of latency up to this are not called one (default: 2)",
    )  # fmt: skip
    add("--max-drop", type=float, default=0.1, metavar="POINTS", help="mIoU that may be lost, in points (default: 0.1)")
    add("--relative", action="store_true", help="compare ratios to each session's baseline, not milliseconds")
    add("--across-devices", action="store_true", help="allow results of different devices")


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg compare``."""
    from edgeseg.flows.compare import CompareRequest, compare

    result = compare(
        CompareRequest(
            arguments.before,
            arguments.after,
            tolerance=arguments.tolerance / 100,
            max_drop=arguments.max_drop / 100,
            relative=arguments.relative,
            across_devices=arguments.across_devices,
        )
    )
    for sentence in result.skipped:
        _output.note(sentence)
    for names, where in ((result.only_before, arguments.before), (result.only_after, arguments.after)):
        if names:
            _output.note(f"only in {where}: {', '.join(names)}")
    if arguments.json:
        _output.json({"regressed": result.regressed, "changes": result.changes})
        return 3 if result.regressed else 0
    table = _output.Table("", "before ms>", "after ms>", "after / before", "latency", "mIoU>", "doubts")
    for change in result.changes:
        state = "bad" if change.regressed else "warn" if change.doubts else "good"
        ratio = change.ratio
        table.row(
            f"{ {'bad': '✗', 'warn': '!', 'good': '✓'}[state] } {change.variant}",
            "-" if change.before_ms is None else f"{change.before_ms:.2f}",
            "-" if change.after_ms is None else f"{change.after_ms:.2f}",
            "-" if ratio is None else f"×{ratio.value:.3f} [{ratio.low:.3f} … {ratio.high:.3f}]",
            change.verdict,
            "-"
            if change.miou_change is None
            else f"{100 * change.miou_change:+.2f}" + (" worse" if change.worse else ""),
            ", ".join(change.doubts),
            state=state,
        )
    table.show()
    return 3 if result.regressed else 0
