"""One place each where a model runs; see `edgeseg.core.device` for what a device is."""

from __future__ import annotations

from edgeseg.core import plugins
from edgeseg.core.device import Device

PACKAGE = "edgeseg.devices"


def load(name: str) -> Device:
    """The device of that name.

    Raises:
        EdgesegError: There is none; the known ones are listed.
    """
    device: Device = plugins.load(PACKAGE, name).DEVICE
    return device


def names() -> list[str]:
    """All devices."""
    return plugins.names(PACKAGE)
