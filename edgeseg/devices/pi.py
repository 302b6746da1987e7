"""A Raspberry Pi: over ssh, or this machine if it is one.

``pi`` is ``ssh://pi@raspberrypi.local`` unless ``devices.toml`` or ``--host`` says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edgeseg.core.device import Settings
from edgeseg.core.measurement import Hello
from edgeseg.devices import _definitions
from edgeseg.devices._governor import Governor
from edgeseg.devices._remote import RemoteDevice
from edgeseg.devices.cpu import CpuDevice
from edgeseg.transports.process import Channel
from edgeseg.transports.ssh import Address
from edgeseg.worker import probe

DEFAULT = "pi@raspberrypi.local"
WAYS_ON = (
    "name it: --host user@name; or run edgeseg on the Pi itself; "
    "or --device pi-emulated, which proves the masks and says nothing of speed"
)


class HerePi(CpuDevice):
    """This machine, which is a Raspberry Pi."""

    name = "pi"

    def __init__(self, settings: Settings, python: Sequence[str] = (sys.executable,)) -> None:
        super().__init__(python)
        self._settings = settings
        self._governor: Governor | None = None

    def probe(self) -> Hello:
        """See `edgeseg.core.device.Device.probe`."""
        if self._settings.governor and self._governor is None:
            self._governor = Governor(_shell, self._settings.governor, "this Pi")
        return super().probe()

    def close(self) -> None:
        """Put the governor back."""
        if self._governor is not None:
            self._governor.close()
            self._governor = None


def device(name: str, detail: str, settings: Settings) -> RemoteDevice | HerePi:
    """The Pi that is meant; see the module."""
    address = _address(settings)
    return HerePi(settings) if address is None else RemoteDevice(name, address, settings, ways_on=WAYS_ON)


def lane(detail: str, settings: Settings) -> str:
    """See `edgeseg.devices.lane`."""
    address = _address(settings)
    return "" if address is None else str(address)


def _address(settings: Settings) -> Address | None:
    """Where the Pi is; None: here."""
    where = settings.host or _definitions.read().get("pi", "")
    if not where and "Raspberry Pi" in probe.board():
        return None
    return Address.parse(where or DEFAULT)


def _shell(script: str, arguments: Sequence[str]) -> Channel:
    return Channel(["sh", "-c", script, "sh", *arguments])
