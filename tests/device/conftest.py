"""Stand-ins: real aarch64 code behind a real sshd (a Raspberry Pi) and behind a real adbd (a phone). They need root, QEMU, and
`doctor --install pi-emulated`, `android` and `android-emulated`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from pathlib import Path

import pytest

from edgeseg.core import process
from edgeseg.core.device import Settings
from edgeseg.devices import _phone_bundle, _standin, _standin_base, _standin_phone, pi_emulated
from edgeseg.devices._remote import RemoteDevice
from edgeseg.devices._standin import StandIn
from edgeseg.devices._standin_base import EmulatedBox
from edgeseg.devices._standin_phone import PhoneStandIn
from edgeseg.devices.android import AndroidDevice
from edgeseg.transports.adb import Adb
from edgeseg.transports.ssh import Address


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


def _skip(reason, what="pi_emulated"):
    spec = importlib.util.spec_from_file_location("edgeseg_tests_conftest", Path(__file__).parents[1] / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.skip(what, reason)


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
        return workers_in(self._inside)


class Phone:
    """A running stand-in of a phone with devices that reach it."""

    def __init__(self, stand_in: PhoneStandIn) -> None:
        self.stand_in = stand_in
        self._inside = stand_in.namespace()
        self.told: list[str] = []

    def device(self, **settings: object) -> AndroidDevice:
        said = Settings(**{"say": self.told.append, **settings})
        return AndroidDevice("android-emulated", Adb(self.stand_in.serial, say=said.say), said)

    def workers(self) -> list[int]:
        return workers_in(self._inside)

    def gone(self) -> bool:
        """Whether no worker is left; Android's `timeout`, which names the worker too, ends a moment after it."""
        until = time.monotonic() + 30
        while self.workers() and time.monotonic() < until:
            time.sleep(0.1)
        return not self.workers()

    def left(self) -> list[str]:
        """What lies in its temporary folder."""
        return sorted(path.name for path in self.stand_in.temporary.iterdir())


def workers_in(inside: Path) -> list[int]:
    """Processes of this machine that are workers in the stand-in with that namespace."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (one / "ns/pid").readlink() == inside and b"worker.pyz" in (one / "cmdline").read_bytes():
                found.append(int(one.name))
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


@pytest.fixture
def adb_server(monkeypatch):
    """A server of adb for the test alone, on a port of its own."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(_standin_base.free_port()))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    yield
    process.run(["adb", "kill-server"], timeout_s=60)


_warm: list[Path] = []


def _warmed(tmp_path_factory) -> Path:
    """What a run with `keep` leaves in the temporary folder, made once."""
    if not _warm:
        place = tmp_path_factory.mktemp("warm") / "left"
        phone = Phone(PhoneStandIn())
        with contextlib.closing(phone.stand_in):
            device = phone.device(keep=True)
            device.probe()
            device.close()
            process.run(["cp", "-a", str(phone.stand_in.temporary), str(place)], timeout_s=120)
        _warm.append(place)
    return _warm[0]


@pytest.fixture
def start_phone(adb_server, tmp_path_factory):
    """`start_phone(extra="…")`: a stand-in of a phone that ends with the test; `warm`: a run before has left what it pushed."""
    if os.geteuid() != 0:
        _skip("the stand-in of a phone needs root", "android_emulated")
    if lacking := _standin_phone.missing():
        _skip(f"apt install {' '.join(lacking)}", "android_emulated")
    for there, command in (
        (_standin_phone.place().is_dir(), _standin_phone.INSTALL_COMMAND),
        (_phone_bundle.installed(), _phone_bundle.INSTALL_COMMAND),
    ):
        if not there:
            _skip(f"the stand-in of a phone is not installed: {command}", "android_emulated")
    running: list[EmulatedBox] = []

    def begin(*, extra="", warm=False):
        if warm:
            extra += f'\ncp -a "{_warmed(tmp_path_factory)}/." "$root/data/local/tmp/"'
        running.append(PhoneStandIn(extra=extra))
        return Phone(running[-1])

    yield begin
    for one in running:
        one.close()
