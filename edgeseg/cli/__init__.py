"""The command line: parse, call one flow, render. The only place that prints or exits.

One file a command: `add` declares its flags, `run` calls its flow and returns the exit code. stdout carries the result
(a table, or one JSON document with ``--json``), stderr everything else. Exit codes: 0 done, 1 the user must change
something, 2 usage, 3 measured and a gate failed, 4 a device cannot be reached, 130 interrupted.

Nothing heavy is imported before a command runs: ``edgeseg --help`` loads no numpy.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from edgeseg import __version__
from edgeseg.cli import bench, compare, demo, device, doctor, export, pick, quantize, report, train, verify
from edgeseg.cli._output import complain
from edgeseg.core.errors import EdgesegError

if TYPE_CHECKING:
    from types import FrameType

COMMANDS = (export, quantize, verify, bench, report, compare, pick, train, device, doctor, demo)
"""In the order of the help: the way of the work."""

DONE, CHANGE_SOMETHING, INTERRUPTED = 0, 1, 130


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    arguments.command_line = shlex.join(["edgeseg", *words])
    interrupt = _Interrupt()
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
    except EdgesegError as error:
        if interrupt.seen:
            code = _interrupted()
        else:
            complain(error.message, error.hint)
            code = error.exit_code
    except KeyboardInterrupt:
        code = _interrupted()
    except BrokenPipeError:  # `edgeseg … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        where = f" {error.filename}" if error.filename else ""
        complain(
            f"cannot write{where}: {error.strerror}", "nothing half-written is left; make room or name another --out"
        )
        code = CHANGE_SOMETHING
    except Exception:
        if not interrupt.seen:
            raise
        code = _interrupted()
    raise SystemExit(code)


class _Interrupt:
    """Remembers that Ctrl-C was pressed: a library in which it arrives may raise an error of its own for it."""

    def __init__(self) -> None:
        self.seen = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with contextlib.suppress(ValueError):  # not the main thread: then nothing arrives here either
                signal.signal(signal.SIGINT, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt


def _interrupted() -> int:
    complain("interrupted", "what was finished before is kept")
    return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="edgeseg",
        description="Segmentation checkpoints to deployable artifacts, with proof that the masks are unchanged.",
        epilog="`edgeseg COMMAND --help` shows a command's flags. "
        "Exit codes: 0 done, 1 change something, 2 usage, 3 a gate failed, 4 a device cannot be reached.",
    )
    top.add_argument("--version", action="version", version=f"edgeseg {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        what = (module.__doc__ or "").strip().splitlines()[0].rstrip(".")
        sub = commands.add_parser(name, help=what[0].lower() + what[1:], description=what + ".")
        sub.set_defaults(run=module.run)
        sub.add_argument("--json", action="store_true", help="one JSON document on stdout instead of a table")
        module.add(sub)
    return top
