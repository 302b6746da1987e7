"""One place each where a model runs; see `edgeseg.core.device` for what a device is."""

from __future__ import annotations

from edgeseg.core import plugins
from edgeseg.core.device import Device
from edgeseg.core.errors import EdgesegError

PACKAGE = "edgeseg.devices"


def load(name: str) -> Device:
    """The device of that name.

    Raises:
        EdgesegError: There is none; the known ones are listed. Or it is one that comes by itself.
    """
    module = plugins.load(PACKAGE, name)
    if arrives(name):
        raise EdgesegError(f"{name} is no device to go to: phones come by themselves", f"edgeseg bench --device {name}")
    device: Device = module.DEVICE
    return device


def arrives(name: str) -> bool:
    """Whether devices of that name come by themselves, one or several, to a `Reception`."""
    return name in names() and hasattr(plugins.load(PACKAGE, name), "RECEPTION")


def names() -> list[str]:
    """All devices."""
    return plugins.names(PACKAGE)
