"""What can go wrong, as the user is told it: one line for what is wrong, one for what mends it.

EdgesegError (exit code 1: the user must change something)
├── CheckpointError     the checkpoint cannot be read, or is not what it was taken for
├── GraphError          the network cannot be used or lowered as asked
├── DataError           images or masks cannot be used
├── ArtifactError       an artifact is missing, damaged or not what its manifest says
├── MissingDependency   a package or tool is not installed
├── GateFailed          measured, and a gate failed (exit code 3)
└── DeviceUnreachable   a device cannot be reached (exit code 4)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgesegError(Exception):
    """Base of every error that is shown to the user as two lines and no traceback.

    Args:
        message: What is wrong, and what was found; one line.
        hint: What to do, with the command to type where there is one; one line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split())


class CheckpointError(EdgesegError):
    """The checkpoint cannot be read, or is not what it was taken for."""


class GraphError(EdgesegError):
    """The network cannot be used or lowered as asked."""


class DataError(EdgesegError):
    """Images or masks cannot be used."""


class ArtifactError(EdgesegError):
    """An artifact is missing, damaged, or not what its manifest says."""


class MissingDependency(EdgesegError):
    """A package or an external tool is not installed."""


class GateFailed(EdgesegError):
    """Something was measured, and did not reach its gate."""

    exit_code = 3


class DeviceUnreachable(EdgesegError):
    """A device does not answer."""

    exit_code = 4


def unknown(what: str, given: str, known: Iterable[str]) -> EdgesegError:
    """The error for a name that is not one of the known ones; suggests the nearest, changes nothing."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    did = f"did you mean {near[0]!r}? " if near else ""
    return EdgesegError(f"unknown {what} {given!r}", f"{did}known: {', '.join(names)}")
