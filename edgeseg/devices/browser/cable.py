"""A phone on a cable: its own loopback leads to our page through ``adb reverse``, so the page is local there. A browser gives a
local page threads and WebGPU without a certificate, and nothing listens on the network."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable

from edgeseg.core import process
from edgeseg.core.errors import EdgesegError
from edgeseg.transports.adb import Adb

_OPEN = 'am start -a android.intent.action.VIEW -d "$1" 2>&1'


class Cable:
    """Leads a phone to a page, and opens it there. It is a context: the way ends with it.

    Args:
        serial: The phone, as ``adb devices`` lists it; empty: the only one.
        link: The page's address on this machine's loopback.
        say: Told what has to be done by hand.

    Raises:
        MissingDependency: There is no adb.
        EdgesegError: There are several phones.
        DeviceUnreachable: There is none, or it does not hand the port on.
    """

    def __init__(self, serial: str, link: str, *, say: Callable[[str], None]) -> None:
        self._adb = Adb(serial, say=say)
        self._port = urllib.parse.urlsplit(link).port or 80
        self._adb.connect()
        self._adb.reverse(self._port)
        say(f"{self._adb.address} reaches the page through the cable, and opens it")
        with contextlib.suppress(process.Timeout):
            done = self._adb.run(_OPEN, [link], timeout_s=30)
            if done.returncode == 0 and "Error" not in done.stdout:
                return
        say(f"it did not open by itself: open {link} on {self._adb.address}")

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(EdgesegError):
            self._adb.unreverse(self._port)
