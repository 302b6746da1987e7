"""Which Pi is meant."""

import pytest

from edgeseg import devices
from edgeseg.core.device import Settings
from edgeseg.core.errors import EdgesegError, MissingDependency
from edgeseg.devices import _definitions, pi, pi_emulated
from edgeseg.devices._standin_board import MODELS, write
from edgeseg.transports.ssh import Address


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_definitions, "places", lambda: (tmp_path / "bench/devices.toml", tmp_path / "devices.toml"))
    monkeypatch.setenv("EDGESEG_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "bench").mkdir()
    return tmp_path


def where(name, **settings):
    return str(devices.load(name, Settings(**settings))._ssh.address)


def test_the_default_the_definition_and_the_flag(here):
    assert where("pi") == "pi@raspberrypi.local"
    (here / "devices.toml").write_text('pi = "ssh://me@later"\nkitchen = "ssh://pi@kitchen.local:2222"\n')
    assert where("pi") == "me@later"
    (here / "bench/devices.toml").write_text('pi = "ssh://me@first"\n')
    assert where("pi") == "me@first"
    assert where("pi", host="you@[fe80::1]:22") == "you@[fe80::1]:22"
    assert where("kitchen") == "pi@kitchen.local:2222"
    assert where("ssh://pi@other") == "pi@other"


def test_definitions_that_are_none(here):
    (here / "devices.toml").write_text("pi = 3\n")
    with pytest.raises(EdgesegError, match="says 3 for 'pi', which is no address"):
        devices.load("pi")
    (here / "devices.toml").write_text("pi =\n")
    with pytest.raises(EdgesegError, match="is not TOML"):
        devices.load("pi")


@pytest.mark.parametrize(
    "text", ["-oProxyCommand=x", "ssh://-x@host", "a b", "host:port", "", "u:secret@host", "host/path"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(EdgesegError, match="is no address"):
        Address.parse(text)


def test_on_a_pi_the_pi_is_here(here, monkeypatch):
    monkeypatch.setattr(pi.probe, "board", lambda: "Raspberry Pi 5 Model B Rev 1.0")
    assert isinstance(devices.load("pi"), pi.HerePi)
    assert where("pi", host="pi@other") == "pi@other"


def test_names_that_nothing_has(here):
    with pytest.raises(EdgesegError, match="unknown device 'toaster'"):
        devices.load("toaster")
    with pytest.raises(EdgesegError, match="says not where"):
        devices.load("ssh")
    with pytest.raises(EdgesegError, match="unknown core or system of the stand-in 'a99'"):
        devices.load("pi-emulated:a99")
    with pytest.raises(MissingDependency, match=r"stand-in of a Pi \(bookworm\) is not installed") as caught:
        devices.load("pi-emulated")
    assert caught.value.hint == pi_emulated.INSTALL_COMMAND


def test_the_board_of_the_stand_in(tmp_path):
    write(tmp_path, MODELS["a76"])
    assert (tmp_path / "sys/devices/system/cpu/cpu3/regs/identification/midr_el1").read_text() == "0x00000000414fd0b1\n"
    assert "asimddp" in (tmp_path / "cpuinfo").read_text()
    assert (tmp_path / "sys/firmware/devicetree/base/model").read_bytes() == b"Raspberry Pi 5 Model B Rev 1.0\0"
    write(tmp_path, MODELS["a72"])
    assert "asimddp" not in (tmp_path / "cpuinfo").read_text()
