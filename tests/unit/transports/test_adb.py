"""The real adb client against a server without devices: what it says of each state, statuses, input, and a pulled cable."""

import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

from edgeseg.core.errors import DeviceUnreachable, EdgesegError, MissingDependency
from edgeseg.core.process import Timeout
from edgeseg.transports import adb as transport
from edgeseg.transports.adb import Adb
from edgeseg.transports.process import ChannelClosed


def test_the_only_device_is_found_and_runs_scripts(adb_server):
    adb = Adb()
    adb.connect()
    assert adb.serial == "FAKE0001"
    done = adb.run('printf "%s|" "$@"; echo complained >&2; exit 5', ["it's", "two words", "$HOME;`id`"], timeout_s=30)
    assert done.stdout == "it's|two words|$HOME;`id`|"
    assert done.stderr.strip() == "complained"
    assert done.returncode == 5
    assert adb.run("kill -9 $$", timeout_s=30).returncode == -9


def test_a_file_goes_through_its_input(adb_server, tmp_path):
    content = os.urandom(3_000_000)
    with tempfile.TemporaryFile() as handle:
        handle.write(content)
        handle.seek(0)
        done = Adb().run('cat > "$1"', [str(tmp_path / "there")], timeout_s=60, stdin=handle)
    assert done.returncode == 0
    assert (tmp_path / "there").read_bytes() == content


@pytest.mark.parametrize(
    ("states", "message", "hint"),
    [
        ({}, "adb sees no phone", "USB debugging"),
        ({"A": "unauthorized"}, "A has not accepted this computer", "Allow USB debugging"),
        ({"A": "offline"}, "A is offline", "adb reconnect offline"),
        ({"A": "no permissions (user in plugdev group; are your udev rules wrong?)"}, "may not talk to it over USB", "udev"),
        ({"A": "recovery"}, "in the state 'recovery'", "start Android"),
    ],
)  # fmt: skip
def test_states_that_are_no_device(adb_server, states, message, hint):
    adb_server.states = states
    with pytest.raises(DeviceUnreachable, match=message) as caught:
        Adb().connect()
    assert hint in caught.value.hint
    assert caught.value.exit_code == 4


def test_several_devices_have_to_be_named(adb_server, monkeypatch):
    adb_server.states = {"A": "device", "B": "device"}
    with pytest.raises(EdgesegError, match="adb sees 2 devices: A, B") as caught:
        Adb().connect()
    assert caught.value.hint == "name one: --host A"
    named = Adb("B")
    named.connect()
    assert named.run("echo hi", timeout_s=30).stdout == "hi\n"
    assert "host:tport:serial:B" in adb_server.asked or "host:transport:B" in adb_server.asked
    with pytest.raises(DeviceUnreachable, match="adb sees no C, only A, B"):
        Adb("C").connect()
    monkeypatch.setenv("ANDROID_SERIAL", "A")
    from_the_environment = Adb()
    from_the_environment.connect()
    assert from_the_environment.serial == "A"


def test_one_usable_device_among_others_is_the_only_one(adb_server):
    adb_server.states = {"A": "offline", "B": "device"}
    adb = Adb()
    adb.connect()
    assert adb.serial == "B"


def test_an_address_is_connected_to(adb_server):
    adb_server.states, adb_server.addresses = {}, {"192.0.2.7:5555"}
    adb = Adb("192.0.2.7:5555")
    adb.connect()
    assert adb.serial == "192.0.2.7:5555"
    adb_server.states["192.0.2.7:5555"] = "offline"
    Adb("192.0.2.7:5555").connect()
    assert "host:disconnect:192.0.2.7:5555" in adb_server.asked, "what is offline has to be forgotten first"
    with pytest.raises(DeviceUnreachable, match=r"adb sees no 192\.0\.2\.8:5555"):
        Adb("192.0.2.8:5555").connect()


def test_a_limit_holds_there(adb_server):
    started = time.monotonic()
    done = Adb().run("sleep 100", timeout_s=1)
    assert done.returncode == -9
    assert time.monotonic() - started < 60


def test_a_device_that_does_not_answer_is_given_up(adb_server, monkeypatch):
    monkeypatch.setattr(transport, "GRACE_S", 1.0)
    adb = Adb()
    adb.connect()
    (adb_server.tools / "timeout").write_text("#!/bin/sh\nsleep 100\n")
    (adb_server.tools / "timeout").chmod(0o755)
    with pytest.raises(Timeout, match="did not end within"):
        adb.run("true", timeout_s=1)


def test_a_cable_that_is_pulled(adb_server):
    adb = Adb()
    adb.connect()
    channel = adb.channel('while read -r line; do echo "$line back"; done')
    channel.send("one")
    assert channel.receive(timeout_s=30) == b"one back"
    adb_server.pull_the_cable()
    with pytest.raises(ChannelClosed):
        channel.receive(timeout_s=30)
    assert adb.lost(channel.returncode)
    channel.close()
    adb_server.states = {"FAKE0001": "device"}
    threading.Timer(1, adb_server.pull_the_cable).start()
    with pytest.raises(DeviceUnreachable, match="FAKE0001 was lost"):
        adb.run("sleep 30", timeout_s=60)


def test_a_lost_device_is_connected_to_again_and_is_never_another_one(adb_server):
    adb_server.states, adb_server.addresses = {}, {"192.0.2.7:5555"}
    by_address = Adb("192.0.2.7:5555")
    by_address.connect()
    adb_server.states = {"FAKE0001": "device"}
    with pytest.raises(DeviceUnreachable, match="was lost"):
        by_address.run("true", timeout_s=30)
    assert by_address.run("echo back", timeout_s=30).stdout == "back\n"
    adb_server.states = {"FAKE0001": "device"}
    the_only_one = Adb()
    the_only_one.connect()
    adb_server.states = {"OTHER": "device"}
    for _ in range(2):
        with pytest.raises(DeviceUnreachable, match="FAKE0001"):
            the_only_one.run("true", timeout_s=30)


def test_a_program_that_ends_by_itself_is_no_lost_connection(adb_server):
    adb = Adb()
    channel = adb.channel("exit 139")
    with pytest.raises(ChannelClosed):
        channel.receive(timeout_s=30)
    assert not adb.lost(channel.returncode)
    channel.close()


def test_ports_are_handed_on_and_back(adb_server):
    adb = Adb()
    adb.connect()
    adb.reverse(8443)
    adb.unreverse(8443)
    assert [one for one in adb_server.asked if one.startswith("reverse:")] == [
        "reverse:forward:tcp:8443;tcp:8443", "reverse:killforward:tcp:8443",
    ]  # fmt: skip


def test_no_adb(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="there is no adb") as caught:
        Adb().connect()
    assert caught.value.hint == "sudo apt install adb"


def test_starting_a_server_is_said(tmp_path, monkeypatch, free_port):
    """With an adb that only lists nothing: no server is really started."""
    fake = tmp_path / "adb"
    fake.write_text("#!/bin/sh\necho 'List of devices attached'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port))
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    told: list[str] = []
    with pytest.raises(DeviceUnreachable, match="adb sees no phone"):
        Adb(say=told.append).connect()
    assert told == [f"adb starts its server on port {free_port} of this machine; it stays until: adb kill-server"]


def test_an_adb_that_does_not_work(tmp_path, monkeypatch, adb_server):
    fake = Path(tmp_path / "bin/adb")
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'error: cannot bind listener: Operation not permitted' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    with pytest.raises(DeviceUnreachable, match="adb does not work: cannot bind listener"):
        Adb().connect()
