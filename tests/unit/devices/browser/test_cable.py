"""A phone on a cable reaches the page as its own, and opens it."""

import pytest

from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.devices.browser.cable import Cable
from edgeseg.flows.bench.phones import Door, Host, bench_phones
from edgeseg.flows.bench.session import BenchRequest

LINK = "http://127.0.0.1:8443/#t=a-token_of-characters"


def tool(server, name, script):
    (server.tools / name).write_text(f"#!/bin/sh\n{script}\n")
    (server.tools / name).chmod(0o755)


def test_the_way_is_made_the_page_is_opened_and_the_way_ends(adb_server, tmp_path):
    tool(adb_server, "am", f'echo "$@" > {tmp_path}/opened; echo "Starting: Intent {{ ... }}"')
    told: list[str] = []
    with Cable("", LINK, say=told.append):
        assert adb_server.asked.count("reverse:forward:tcp:8443;tcp:8443") == 1
        assert (tmp_path / "opened").read_text() == f"start -a android.intent.action.VIEW -d {LINK}\n"
    assert adb_server.asked.count("reverse:killforward:tcp:8443") == 1
    assert told == ["FAKE0001 reaches the page through the cable, and opens it"]


def test_a_page_that_does_not_open_by_itself_is_opened_by_hand(adb_server):
    tool(adb_server, "am", 'echo "Error: Activity not started, unable to resolve Intent"')
    told: list[str] = []
    with Cable("", LINK, say=told.append):
        assert told[1:] == [f"it did not open by itself: open {LINK} on FAKE0001"]


def test_no_phone_on_the_cable(adb_server):
    adb_server.states = {}
    with pytest.raises(DeviceUnreachable, match="adb sees no phone"):
        Cable("", LINK, say=print)


def test_a_cable_and_a_network_are_two_ways():
    request = BenchRequest(device="browser")
    with pytest.raises(EdgesegError, match="--usb and --lan are two ways"):
        list(bench_phones(request, Door(lan=True, usb=True), Host(lambda invitation, left_out: None)))
