"""A stand-in of a Raspberry Pi: real aarch64 code behind a real sshd. Needs root, QEMU and `doctor --install pi-emulated`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path

import pytest

from edgeseg.core.device import Settings
from edgeseg.devices import _standin, pi_emulated
from edgeseg.devices._remote import RemoteDevice
from edgeseg.devices._standin import StandIn
from edgeseg.transports.ssh import Address


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


def _skip(reason):
    spec = importlib.util.spec_from_file_location("edgeseg_tests_conftest", Path(__file__).parents[1] / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.skip("pi_emulated", reason)


def _root(suite):
    """The root folder of a stand-in."""
    if os.geteuid() != 0:
        _skip("the stand-in of a Pi needs root")
    if lacking := _standin.missing():
        _skip(f"apt install {' '.join(lacking)}")
    if pi_emulated.installed(suite) is None:
        _skip(f"the stand-in of a Pi is not installed: {_standin.install_command(suite)}")
    return pi_emulated.installed(suite) / "root"


@pytest.fixture(scope="session")
def root():
    """The root folder of the usual stand-in."""
    return _root(_standin.SUITE)


@pytest.fixture(scope="session")
def trixie():
    """The root folder of the one with Debian Trixie, which has other files, so that both can run at once."""
    return _root("trixie")


class Pi:
    """A running stand-in with devices that reach it."""

    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in
        self._inside = stand_in.namespace()
        self.told: list[str] = []

    def device(self, address: Address | None = None, **settings: object) -> RemoteDevice:
        said = Settings(**{"offline": True, "say": self.told.append, **settings})
        address = address or Address("127.0.0.1", "pi", self.stand_in.port)
        return RemoteDevice("pi-emulated", address, said, config=self.stand_in.config, ways_on="the ways on")

    def workers(self) -> list[int]:
        """Processes of this machine that are workers in this stand-in."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                inside = (process / "ns/pid").readlink() == self._inside
                if inside and b"worker.pyz" in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found


@pytest.fixture
def start(root):
    """`start("a76", suite="trixie", extra="…")`: a stand-in that ends with the test."""
    running = []

    def begin(core="a72", *, suite=_standin.SUITE, extra=""):
        running.append(StandIn(core, suite=suite, extra=extra))
        return Pi(running[-1])

    yield begin
    for one in running:
        one.close()
