"""Turn bench results into one self-contained HTML page, CSV or Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeseg.cli import _output


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg report``."""
    add = parser.add_argument
    add("results", nargs="*", type=Path, metavar="RESULTS", help="files or folders of results (default: bench/results)")
    add(
        "--html", type=Path, metavar="FILE", help="the page (default: report.html, unless --csv or --markdown is given)"
    )
    add("--csv", type=Path, metavar="FILE", help="all figures, a line a variant")
    add("--markdown", type=Path, metavar="FILE", help="a table for a README")


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg report``."""
    from edgeseg.flows.bench.session import RESULTS
    from edgeseg.flows.report import ReportRequest, report

    page = arguments.html
    if page is None and not (arguments.csv or arguments.markdown):
        page = Path("report.html")
    places = tuple(arguments.results) or (RESULTS,)
    result = report(ReportRequest(places, page, arguments.csv, arguments.markdown))
    for sentence in result.skipped:
        _output.note(sentence)
    if arguments.json:
        _output.json({"written": result.written, "devices": result.devices, "rows": result.lines})
        return 0
    table = _output.Table("", "KB>", title=f"{len(result.lines)} variants on {', '.join(result.devices)}")
    for path in result.written:
        table.row(f"✓ {path}", f"{path.stat().st_size / 1e3:.0f}", state="good")
    table.show()
    return 0
