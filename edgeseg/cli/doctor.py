"""Say what is installed and reachable, and the command that mends the rest."""

from __future__ import annotations

import argparse

from edgeseg.cli import _output


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg doctor``."""
    parser.add_argument(
        "--install",
        metavar="NAME",
        help="make the separate environment of a tool that pins other packages, e.g. paddle; or fetch the runtimes of "
        "the page for phones: browser; or make the stand-in of a Pi: pi-emulated, pi-emulated:trixie",
    )


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg doctor``."""
    from edgeseg.flows.doctor import doctor, install

    if arguments.install:
        folder = install(arguments.install, say=_output.note)
        if arguments.json:
            _output.json({"installed": arguments.install, "path": folder})
        return 0
    checks = doctor()
    if arguments.json:
        _output.json({"checks": checks})
        return 0
    table = _output.Table("", "what", "state", "to mend it")
    for check in checks:
        state = "good" if check.ready else "warn"
        table.row(f"{'✓' if check.ready else '!'} {check.kind}", check.name, check.detail, check.mend, state=state)
    table.show()
    return 0
