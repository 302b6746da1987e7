"""One runtime each; see `edgeseg.core.backend` for what a backend is, and `null` for the smallest one."""

from __future__ import annotations

from edgeseg.core import plugins
from edgeseg.core.backend import Backend

PACKAGE = "edgeseg.backends"


def load(name: str) -> Backend:
    """The backend of that name.

    Raises:
        EdgesegError: There is none; the known ones are listed.
    """
    backend: Backend = plugins.load(PACKAGE, name).BACKEND
    return backend


def names() -> list[str]:
    """All backends that produce something to deploy: every plug-in but `null`."""
    return [name for name in plugins.names(PACKAGE) if name != "null"]
