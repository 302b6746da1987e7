"""An Android device through the user's own ``adb`` program: its server, its keys and its list of devices count.

adb talks to devices through a server of its own on this machine, port 5037 of loopback unless ``ANDROID_ADB_SERVER_PORT``
says otherwise, and starts it where there is none; that is said. Nothing here restarts a device's adbd or opens it to a network.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from edgeseg.core import process
from edgeseg.core.errors import DeviceUnreachable, EdgesegError, MissingDependency
from edgeseg.core.process import Finished
from edgeseg.transports.process import Channel
from edgeseg.transports.shell import GRACE_S

ASK_S = 30.0
"""How long adb itself may take to say what it sees; starting its server takes some seconds."""
USUAL_PORT = 5037
USB_DEBUGGING = (
    "plug it in, switch on USB debugging (Settings > Developer options) and accept this computer on its screen; "
    "`adb devices` has to list it"
)
_ENDED = "edgeseg-exit-status "
# adb's exit status is 0 where the connection broke (seen with 29.0.6), and always 0 on Android 6 and older: the status
# comes as the last line of stderr, and where that line is missing, so is the connection.
_RUN = r"""
limit=$1 script=$2; shift 2
timeout -s KILL "$limit" sh -c "$script" sh "$@"
printf '\n%s%s\n' "$0" $? >&2
"""


@dataclass(frozen=True)
class Seen:
    """A line of ``adb devices``."""

    serial: str
    state: str


class Adb:
    """The way to one device.

    Args:
        serial: As ``adb devices`` lists it; ``host:port`` is connected to if it is not there; empty: ``ANDROID_SERIAL``, or the only one.
        say: Told that a server is started.
    """

    def __init__(self, serial: str = "", *, say: Callable[[str], None] = lambda line: None) -> None:
        self._wanted, self._say = serial or os.environ.get("ANDROID_SERIAL", ""), say
        self.serial = self._wanted
        self._found = False

    @property
    def address(self) -> str:
        """See `Shell.address`."""
        return self.serial or "the phone"

    def connect(self) -> None:
        """Find the device.

        Raises:
            MissingDependency: There is no adb on this machine.
            EdgesegError: There are several, and none was named.
            DeviceUnreachable: There is none, or it cannot be talked to.
        """
        if shutil.which("adb") is None:
            raise MissingDependency("there is no adb on this machine", "sudo apt install adb")
        self._tell_of_server()
        seen = self.devices()
        serial = self._wanted
        if serial and ":" in serial and Seen(serial, "device") not in seen:
            if serial in [one.serial for one in seen]:  # offline: as long as adb remembers it, it does not connect anew
                self.disconnect()
            self._ask(["connect", serial])
            seen = self.devices()
        if not serial:
            usable = [one for one in seen if one.state == "device"] or seen
            if len(usable) > 1:
                names = ", ".join(one.serial for one in usable)
                raise EdgesegError(f"adb sees {len(usable)} devices: {names}", f"name one: --host {usable[0].serial}")
            if not usable:
                raise DeviceUnreachable("adb sees no phone", USB_DEBUGGING)
            serial = usable[0].serial
        state = next((one.state for one in seen if one.serial == serial), "")
        if state != "device":
            raise _refusal(serial, state, [one.serial for one in seen])
        # From now on it is this one: should it be lost, another that is plugged in meanwhile is not taken for it.
        self.serial = self._wanted = serial
        self._found = True

    def devices(self) -> list[Seen]:
        """What adb sees, in its order.

        Raises:
            DeviceUnreachable: adb itself does not work.
        """
        told = self._ask(["devices"])
        if told.returncode != 0 or "List of devices" not in told.stdout:
            raise DeviceUnreachable(
                f"adb does not work: {_last(told.stderr or told.stdout)}", "adb kill-server, then adb devices"
            )
        lines = told.stdout.partition("List of devices")[2].splitlines()[1:]
        found = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("*")]
        return [Seen(words[0], words[1].strip() if len(words) > 1 else "") for words in found]

    def run(
        self, script: str, arguments: Sequence[str] = (), *, timeout_s: float, stdin: IO[bytes] | None = None
    ) -> Finished:
        """See `Shell.run`."""
        if not self._found:
            self.connect()
        words = ["sh", "-c", _RUN, _ENDED, f"{timeout_s:g}", script, *arguments]
        done = process.run(self._shell(words), timeout_s=timeout_s + GRACE_S, stdin=stdin)
        told, mark, status = done.stderr.rpartition(f"\n{_ENDED}")
        if not mark:
            self._found = False
            raise DeviceUnreachable(
                f"{self.address} was lost: {_last(done.stderr) or 'adb gave no reason'}", USB_DEBUGGING
            )
        code = int(status.strip() or 0)
        # As for a program here: a signal is a negative status.
        return Finished(128 - code if 128 < code < 160 else code, done.stdout, told)

    def channel(self, script: str, arguments: Sequence[str] = ()) -> Channel:
        """See `Shell.channel`."""
        if not self._found:
            self.connect()
        return Channel(self._shell(["sh", "-c", script, "sh", *arguments]))

    def lost(self, code: int | None) -> bool:
        """See `Shell.lost`; a status of 0 says nothing, for nothing that is talked to ends by itself."""
        there = code != 0 and self._state() == "device"
        self._found = self._found and there
        return not there

    def reverse(self, port: int) -> None:
        """Let a port of the device's loopback lead to the same port of ours, until `unreverse` or the cable is pulled.

        Raises:
            DeviceUnreachable: It cannot.
        """
        done = self._ask(["reverse", f"tcp:{port}", f"tcp:{port}"], serial=True)
        if done.returncode != 0:
            raise DeviceUnreachable(f"{self.address} does not hand on port {port}: {_last(done.stderr)}", USB_DEBUGGING)

    def unreverse(self, port: int) -> None:
        """Undo `reverse`; nothing happens where it holds no longer."""
        with contextlib.suppress(EdgesegError):
            self._ask(["reverse", "--remove", f"tcp:{port}"], serial=True)

    def disconnect(self) -> None:
        """Let adb's server forget a device that was connected to by its address."""
        with contextlib.suppress(EdgesegError):
            self._ask(["disconnect", self._wanted])

    def close(self) -> None:
        """Nothing is held: the server is the user's."""

    def _state(self) -> str:
        with contextlib.suppress(EdgesegError):
            return self._ask(["get-state"], serial=True).stdout.strip()
        return ""

    def _shell(self, words: Sequence[str]) -> list[str]:
        return ["adb", "-s", self.serial, "shell", "-T", shlex.join(words)]

    def _ask(self, words: Sequence[str], *, serial: bool = False) -> Finished:
        command = ["adb", *(["-s", self.serial] if serial else []), *words]
        try:
            return process.run(command, timeout_s=ASK_S)
        except process.Timeout as error:
            raise DeviceUnreachable(
                f"adb did not answer: {error.message}", "adb kill-server, then adb devices"
            ) from error

    def _tell_of_server(self) -> None:
        """adb is about to start its server, which outlives us: nobody should find that out by themselves."""
        if os.environ.get("ADB_SERVER_SOCKET"):
            return
        port = server_port()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            self._say(f"adb starts its server on port {port} of this machine; it stays until: adb kill-server")


def server_port() -> int:
    """The port of adb's server on this machine."""
    given = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    return int(given) if given.isdigit() else USUAL_PORT


def _refusal(serial: str, state: str, seen: Sequence[str]) -> EdgesegError:
    """Why a device cannot be used, as two lines."""
    if not state:
        others = f", only {', '.join(seen)}" if seen else ""
        hint = f"name that: --host {seen[0]}" if seen else USB_DEBUGGING
        return DeviceUnreachable(f"adb sees no {serial}{others}", hint)
    if state.startswith("unauthorized"):
        return DeviceUnreachable(
            f"{serial} has not accepted this computer",
            "unlock it and accept 'Allow USB debugging?'; if it does not ask: adb kill-server, and plug it in again",
        )
    if state.startswith("offline"):
        return DeviceUnreachable(
            f"{serial} is offline: adb sees it and it does not answer",
            "plug it in again, or: adb reconnect offline",
        )
    if "no permissions" in state:
        return DeviceUnreachable(
            f"{serial}: this user may not talk to it over USB ({state})",
            "sudo apt install android-sdk-platform-tools-common (it brings the udev rules), then plug it in again",
        )
    return DeviceUnreachable(
        f"{serial} is in the state {state!r}, not 'device'", "start Android on it, and look with: adb devices"
    )


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^(adb: )?error: ", "", lines[-1]) if lines else ""
