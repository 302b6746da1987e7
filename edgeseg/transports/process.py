"""A program on this machine, talked to line by line through its pipes.

The program may be ``ssh`` or ``adb shell`` as well as a Python: what matters is that lines go in and lines come out.
The host sleeps in the kernel while it waits, because a parent that polls would take the core that is being measured.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

from edgeseg.core.errors import EdgesegError
from edgeseg.core.process import signal_name

_TAIL = 2000


class ChannelClosed(EdgesegError):
    """The program ended."""


class ChannelTimeout(EdgesegError):
    """The program did not answer in time."""


class Channel:
    """A running program.

    Args:
        command: Program and arguments; no shell is involved.
        variables: Its whole environment; ours if None.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, command: Sequence[str], *, variables: Mapping[str, str] | None = None) -> None:
        # A file and not a pipe: a runtime that complains a lot must not block on a pipe that nobody empties.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._buffer = b""
        self._child = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            env=None if variables is None else dict(variables),
            start_new_session=True,  # so that Ctrl-C reaches us alone, and its children can be ended with it
        )
        self._selector = selectors.DefaultSelector()
        assert self._child.stdout is not None
        self._selector.register(self._child.stdout, selectors.EVENT_READ)

    def send(self, line: str) -> None:
        """Write one line.

        Raises:
            ChannelClosed: The program ended.
        """
        assert self._child.stdin is not None
        content = memoryview(line.encode() + b"\n")
        try:
            while content:  # an unbuffered pipe takes what fits
                content = content[self._child.stdin.write(content) :]
        except (BrokenPipeError, OSError) as error:
            raise ChannelClosed(self._last_words()) from error

    def receive(self, *, timeout_s: float) -> bytes:
        """Sleep until a whole line is there, and return it without its end.

        Raises:
            ChannelClosed: The program ended before the line did.
            ChannelTimeout: No whole line came within `timeout_s`.
        """
        assert self._child.stdout is not None
        until = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                raise ChannelTimeout(f"no answer within {timeout_s:.0f} s")
            block = os.read(self._child.stdout.fileno(), 1 << 20)
            if not block:
                raise ChannelClosed(self._last_words())
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self, *, timeout_s: float = 2.0) -> None:
        """End the program: its input is closed, and after `timeout_s` it and its children are killed."""
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):  # the program is gone already
                self._child.stdin.close()
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._selector.close()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._stderr.close()

    @property
    def returncode(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._child.poll()

    def kill(self) -> None:
        """End the program and its children at once."""
        if self._child.poll() is None:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._child.kill()
            self._child.wait()

    def _last_words(self) -> str:
        """Why the program ended: its signal, or the last line of its complaints."""
        try:
            code = self._child.wait(2.0)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if code < 0:
            return f"ended by {signal_name(-code)}"
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _TAIL))
        lines = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {code}"
