"""One place each where a model runs; see `edgeseg.core.device` for what a device is."""

from __future__ import annotations

from edgeseg.core import plugins
from edgeseg.core.device import Device, Settings
from edgeseg.core.errors import EdgesegError, unknown
from edgeseg.devices import _definitions

PACKAGE = "edgeseg.devices"


def load(name: str, settings: Settings = Settings()) -> Device:
    """The device of that name.

    Args:
        name: A plug-in's name, with what it wants to know after a colon (``ssh://pi@kitchen.local``), or a name of
            the user's own from ``devices.toml``.
        settings: What the user asked of it.

    Raises:
        EdgesegError: There is none; the known ones are listed. Or it is one that comes by itself.
    """
    plugin, detail = _resolve(name)
    if arrives(plugin):
        raise EdgesegError(
            f"{name} is no device to go to: phones come by themselves", f"edgeseg bench --device {plugin}"
        )
    module = plugins.load(PACKAGE, plugin)
    make = getattr(module, "device", None)
    device: Device = make(name, detail, settings) if make else module.DEVICE
    return device


def lane(name: str, settings: Settings = Settings()) -> str:
    """Devices of different lanes can be measured at once, those of one lane one after another; empty: nothing may run
    beside it, because it is this machine.

    Raises:
        EdgesegError: There is no such device.
    """
    plugin, detail = _resolve(name)
    find = getattr(plugins.load(PACKAGE, plugin), "lane", None)
    return str(find(detail, settings)) if find else ""


def arrives(name: str) -> bool:
    """Whether devices of that name come by themselves, one or several, to a `Reception`."""
    return name in names() and hasattr(plugins.load(PACKAGE, name), "RECEPTION")


def names() -> list[str]:
    """All devices."""
    return plugins.names(PACKAGE)


def _resolve(name: str) -> tuple[str, str]:
    """The plug-in that a name means, and what stands behind the colon."""
    plugin, _, detail = name.partition(":")
    if plugin not in names():
        own = _definitions.read()
        if name not in own:
            raise unknown("device", name, {*names(), *own})
        plugin, _, detail = own[name].partition(":")
    return plugin, detail
