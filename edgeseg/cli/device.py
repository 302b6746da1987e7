"""Look after a device: remove what edgeseg keeps there."""

from __future__ import annotations

import argparse

from edgeseg.cli import _flags, _output


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg device``."""
    parser.add_argument("action", choices=["clean"], help="clean: remove every trace of edgeseg from it")
    parser.add_argument("name", metavar="NAME", help="the device, e.g. pi, ssh://user@host or android")
    _flags.add_device_access(parser)


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg device``."""
    from edgeseg.flows.device import clean

    removed = clean(arguments.name, _flags.device_settings(arguments))
    if arguments.json:
        _output.json({"device": arguments.name, "removed": removed})
    else:
        _output.note(f"{arguments.name}: {removed} is gone" if removed else f"{arguments.name}: nothing is kept there")
    return 0
