"""Running another program so that neither it nor its children outlive us or a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional

from edgeseg.core.errors import EdgesegError


@dataclass(frozen=True)
class Finished:
    """A program that ended.

    Attributes:
        returncode: Its exit status; negative: the signal that ended it.
        stdout: What it printed, undecodable bytes replaced.
        stderr: What it complained.
    """

    returncode: int
    stdout: str
    stderr: str

    @property
    def last_words(self) -> str:
        """The last line that says something: where a Python program names its exception."""
        if self.returncode < 0:
            return f"ended by {signal_name(-self.returncode)}"
        lines = [line.strip() for text in (self.stdout, self.stderr) for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {self.returncode}"


class Timeout(EdgesegError):
    """A program ran past its limit and was stopped."""


def signal_name(number: int) -> str:
    """``11`` is ``SIGSEGV``; a number without a name stays a number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    cwd: Optional[Path] = None,
    variables: Optional[Mapping[str, str]] = None,
    stdin: Optional[IO[bytes]] = None,
) -> Finished:
    """Run a program to its end, in a process group of its own.

    Args:
        command: Program and arguments; no shell is involved.
        timeout_s: The whole group is killed after so many seconds.
        cwd: Its working folder; ours if None.
        variables: Its whole environment; ours if None.
        stdin: An open file that it reads; nothing if None.

    Raises:
        Timeout: The limit passed.
        OSError: The program cannot be started.
    """
    child = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=None if variables is None else dict(variables),
        start_new_session=True,  # so that the children of the child can be ended with it
    )
    try:
        stdout, stderr = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise Timeout(f"{Path(command[0]).name} did not end within {timeout_s:g} s and was stopped") from error
    finally:
        if child.returncode is None:  # a time limit, an interrupt: nothing is left running
            _end(child)
    return Finished(child.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.communicate()
