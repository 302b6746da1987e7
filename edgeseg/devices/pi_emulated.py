"""A stand-in for a Raspberry Pi on this machine: the masks of the real Arm kernels, and nothing about speed.

``pi-emulated`` is a Pi 4; ``pi-emulated:a53``, ``:a72`` and ``:a76`` are a Pi 3, 4 and 5. Its system is Debian Bookworm;
``pi-emulated:trixie`` has Trixie, and ``pi-emulated:a76-trixie`` is a Pi 5 with that.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeseg.core.device import Settings
from edgeseg.core.errors import unknown
from edgeseg.devices import _standin
from edgeseg.devices._remote import RemoteDevice
from edgeseg.devices._standin import StandIn
from edgeseg.devices._standin_board import MODELS
from edgeseg.transports.ssh import Address

DEFAULT_CORE = "a72"
INSTALL_COMMAND = _standin.INSTALL_COMMAND
install = _standin.install


def installed(suite: str = _standin.SUITE) -> Path | None:
    """Its folder; None if `install` has not made it."""
    place = _standin.place(suite)
    return place if place.is_dir() else None


def which(detail: str) -> tuple[str, str]:
    """Core and system that a name asks for: ``a76``, ``trixie`` or both with a hyphen between.

    Raises:
        EdgesegError: There is no such core or system.
    """
    core, suite = DEFAULT_CORE, _standin.SUITE
    for word in filter(None, detail.split("-")):
        if word in MODELS:
            core = word
        elif word in _standin.SUITES:
            suite = word
        else:
            raise unknown("core or system of the stand-in", word, [*MODELS, *_standin.SUITES])
    return core, suite


class EmulatedPi(RemoteDevice):
    """A stand-in that runs as long as the device is in use.

    Args:
        name: As the user calls it.
        settings: What the user asked; it is offline in any case, so that the way of a Pi without internet is gone.
        stand_in: A running one.
    """

    def __init__(self, name: str, settings: Settings, stand_in: StandIn) -> None:
        super().__init__(
            name, Address("127.0.0.1", "pi", stand_in.port), replace(settings, offline=True, host=""),
            config=stand_in.config,
        )  # fmt: skip
        self.stand_in = stand_in

    def close(self) -> None:
        """End the connection and the stand-in."""
        try:
            super().close()
        finally:
            self.stand_in.close()


def device(name: str, detail: str, settings: Settings) -> EmulatedPi:
    """Start a stand-in.

    Args:
        name: As the user calls it.
        detail: Its core and its system, see `which`.
        settings: What the user asked.

    Raises:
        MissingDependency: It is not installed.
    """
    core, suite = which(detail)
    return EmulatedPi(name, settings, StandIn(core, suite=suite))


def lane(detail: str, settings: Settings) -> str:
    """See `edgeseg.devices.lane`: stand-ins share their files and this machine, so one runs after another."""
    return _standin.__name__
