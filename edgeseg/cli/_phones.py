"""``edgeseg bench --device browser``: the address and its QR code, and a line for each phone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeseg.cli import _bench_table, _output
from edgeseg.core import plugins

if TYPE_CHECKING:
    from edgeseg.core.errors import EdgesegError
    from edgeseg.devices.browser import Invitation
    from edgeseg.flows.bench.session import BenchRequest, BenchResult


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of the device `browser`."""
    add = parser.add_argument
    add("--lan", action="store_true", help="browser: let phones of this network come, over HTTPS")
    add("--plain-http", action="store_true", help="browser: no HTTPS with --lan; one thread, no WebGPU, no camera")
    add(
        "--port",
        type=int,
        default=0,
        metavar="N",
        help="browser: port of the page (default: 8443, or one that is free)",
    )


def measure(request: BenchRequest, arguments: argparse.Namespace) -> Iterator[BenchResult]:
    """Wait for phones and hand on the result of each."""
    from edgeseg.flows.bench.phones import Door, Host, bench_phones

    with _bench_table.Bars() as bars:
        host = Host(
            invite=_invite,
            arrived=lambda phone: _output.note(f"{phone} begins"),
            failed=_failed,
            progress=bars.show,
        )
        door = Door(lan=arguments.lan, plain=arguments.plain_http, port=arguments.port)
        yield from bench_phones(request, door, host)


def _invite(invitation: Invitation, left_out: tuple[str, ...]) -> None:
    for name in left_out:
        _output.note(f"{name} does not run in a browser and is left out")
    if sys.stderr.isatty():
        segno = plugins.require("segno", extra="browser", what="the QR code")
        segno.make(invitation.link, error="l").terminal(out=sys.stderr, compact=True)
    _output.note(f"open {invitation.link} and tap Start")
    if invitation.fingerprint:
        _output.note(
            f"the browser warns of a certificate that nobody signed; it is ours if its SHA-256 is {invitation.fingerprint}"
        )
    if invitation.lost:
        _output.note(invitation.lost)


def _failed(phone: str, error: EdgesegError) -> None:
    _output.complain(f"{phone}: {error.message}", error.hint)
