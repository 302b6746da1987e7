"""A stand-in for an Android phone on this machine: a real adbd and the masks of the real Arm kernels, and nothing about speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeseg.core.device import Settings
from edgeseg.core.errors import EdgesegError
from edgeseg.devices import _standin_phone
from edgeseg.devices._standin_phone import PhoneStandIn
from edgeseg.devices.android import AndroidDevice
from edgeseg.transports.adb import Adb

INSTALL_COMMAND = _standin_phone.INSTALL_COMMAND
install = _standin_phone.install


def installed() -> Path | None:
    """Its folder; None if `install` has not made it."""
    return _standin_phone.place() if _standin_phone.place().is_dir() else None


class EmulatedPhone(AndroidDevice):
    """A stand-in that runs as long as the device is in use.

    Args:
        name: As the user calls it.
        settings: What the user asked.
        stand_in: A running one.
    """

    def __init__(self, name: str, settings: Settings, stand_in: PhoneStandIn) -> None:
        super().__init__(name, Adb(stand_in.serial, say=settings.say), replace(settings, host=""))
        self.stand_in = stand_in

    def close(self) -> None:
        """End the connection and the stand-in."""
        try:
            super().close()
            self._adb.disconnect()
        finally:
            self.stand_in.close()


def device(name: str, detail: str, settings: Settings) -> EmulatedPhone:
    """Start a stand-in.

    Raises:
        MissingDependency: It is not installed.
    """
    if detail:
        raise EdgesegError(f"android-emulated has no kinds, and {detail!r} is asked for", "--device android-emulated")
    return EmulatedPhone(name, settings, PhoneStandIn())
