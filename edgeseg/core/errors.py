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
    usual_hint = "edgeseg COMMAND --help shows what can be given"
    """Shown where an error brings no hint of its own, so that there are always two lines."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split()) or self.usual_hint


class CheckpointError(EdgesegError):
    """The checkpoint cannot be read, or is not what it was taken for."""

    usual_hint = (
        "take the checkpoint from its source again, or export the network to ONNX with the tool that trained it"
    )


class GraphError(EdgesegError):
    """The network cannot be used or lowered as asked."""

    usual_hint = "try another --target or --input-size; edgeseg export --help shows all flags"


class DataError(EdgesegError):
    """Images or masks cannot be used."""

    usual_hint = "mend or remove the file, or name other pictures with --data"


class ArtifactError(EdgesegError):
    """An artifact is missing, damaged, or not what its manifest says."""

    usual_hint = "export the artifact again: edgeseg export CHECKPOINT --target NAME"


class MissingDependency(EdgesegError):
    """A package or an external tool is not installed."""

    usual_hint = "edgeseg doctor shows what is missing and the command that installs it"


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
