"""The worker's loop: one command in, its records out, asleep in between.

python worker.pyz < lines        the job, then one command a line
python worker.pyz FILE           the same lines from a file
"""

from __future__ import annotations

import json
import os
import sys
from typing import BinaryIO

from edgeseg.core import records
from edgeseg.core.errors import EdgesegError
from edgeseg.core.job import Command, Job
from edgeseg.core.measurement import Done, Failed
from edgeseg.worker import probe
from edgeseg.worker.bench import Bench


def main() -> None:
    """Read the job, say hello, and carry out commands until there are no more."""
    answers = _private_stdout()
    source: BinaryIO = open(sys.argv[1], "rb") if len(sys.argv) > 1 else sys.stdin.buffer  # noqa: SIM115, PTH123
    job = records.from_json(Job, source.readline(), where="job")

    def say(record: object) -> None:
        answers.write(records.to_json(record).encode() + b"\n")
        answers.flush()

    bench = Bench(job)
    say(probe.hello())
    for line in iter(source.readline, b""):
        command = records.from_json(Command, line, where="command")
        try:
            for answer in bench.do(command):
                say(answer)
        except EdgesegError as error:
            say(Failed(command.item, error.message, error.hint))
        except Exception as error:  # whatever a runtime throws at us is that item's failure, not the worker's
            say(Failed(command.item, f"{type(error).__name__}: {' '.join(str(error).split())}"))
        say(Done(command.item))


def _private_stdout() -> BinaryIO:
    """The pipe to the host, out of the reach of runtimes: what they print to stdout goes to stderr from here on."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


if __name__ == "__main__":
    try:
        main()
    except (EdgesegError, json.JSONDecodeError) as error:
        raise SystemExit(str(error)) from error
