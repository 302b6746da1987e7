"""Run everything on the bundled network and synthetic portraits, in about a minute."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeseg.cli import _bench_table, _output, bench, export, quantize, verify


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg demo``."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="where artifacts and pages go (default: demo)"
    )


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg demo``."""
    from edgeseg.flows.demo import demo

    with _output.Status() as status:
        result = demo(arguments.out, command=arguments.command_line, say=status.say)
    for name in result.missing:
        _output.note(f"the backend {name} is not installed: pip install 'edgeseg[{name}]'")
    if arguments.json:
        _output.json(
            {
                "exports": [export.document(exported) for exported in result.exports],
                "quantize": quantize.document(result.quantized),
                "verify": verify.document(result.verified),
                "bench": bench.document(result.benched),
                "report": result.page,
            }
        )
    else:
        for exported in result.exports:
            export.table(exported)
        quantize.table(result.quantized)
        verify.table(result.verified)
        _bench_table.show(result.benched.summary)
        if result.page is not None:
            _output.note(f"the report is in {result.page}")
        else:
            _output.note("no report page without plotly: pip install 'edgeseg[report]'")
    codes = [export.code(exported) for exported in result.exports]
    return max([*codes, quantize.code(result.quantized), verify.code(result.verified)])
