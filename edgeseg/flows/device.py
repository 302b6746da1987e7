"""Looking after a device."""

from __future__ import annotations

import contextlib

from edgeseg import devices
from edgeseg.core.device import Settings


def clean(name: str, settings: Settings) -> str:
    """Remove everything that edgeseg keeps on a device, running workers too.

    Returns:
        The folder that was removed; empty where nothing is ever kept.

    Raises:
        EdgesegError: It cannot be removed.
        DeviceUnreachable: The device does not answer.
    """
    with contextlib.closing(devices.load(name, settings)) as device:
        remove = getattr(device, "clean", None)
        return str(remove()) if remove is not None else ""
