"""What a device is reached through: shell scripts that are run there to their end, or talked to line by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Protocol

from edgeseg.core.process import Finished
from edgeseg.transports.process import Channel

GRACE_S = 15.0
"""A command there has a time limit of its own; ours is so much longer, because killing our end alone ends nothing there."""


class Shell(Protocol):
    """A way to one device: `Ssh`, `Adb`."""

    @property
    def address(self) -> object:
        """Where it is, for messages."""
        ...

    def connect(self) -> None:
        """Make the connection, or find that it is there.

        Raises:
            DeviceUnreachable: There is none to be had.
        """
        ...

    def run(
        self, script: str, arguments: Sequence[str] = (), *, timeout_s: float, stdin: IO[bytes] | None = None
    ) -> Finished:
        """Run a shell script there.

        Args:
            script: For ``sh``.
            arguments: Its ``$1``, ``$2``, …; quoted here.
            timeout_s: It is killed there after so many seconds.
            stdin: An open file that it reads.

        Raises:
            DeviceUnreachable: There is no connection, or it broke.
            Timeout: The limit passed here as well.
        """
        ...

    def channel(self, script: str, arguments: Sequence[str] = ()) -> Channel:
        """Start a shell script there and talk to it line by line; the script sees to its own time limit.

        Raises:
            DeviceUnreachable: There is no connection.
        """
        ...

    def lost(self, code: int | None) -> bool:
        """Whether a channel that ended with this status ended because the connection broke."""
        ...

    def close(self) -> None:
        """End the connection; safe to call twice."""
        ...
