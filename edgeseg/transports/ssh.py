"""Another machine through the user's own OpenSSH: their configuration, agent, jump hosts and known hosts count.

One connection is made and shared (`ControlMaster`); commands and files go through it. Nothing asks for a password, and
a host key that is unknown or changed ends the attempt.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgeseg.core import process
from edgeseg.core.errors import DeviceUnreachable, EdgesegError, MissingDependency
from edgeseg.core.process import Finished
from edgeseg.transports.process import Channel

CONNECT_S = 10
ALIVE_S, ALIVE_COUNT = 5, 3
"""A connection over which nothing comes back for 15 s is taken for lost."""
GRACE_S = 15.0
"""A remote command has a time limit of its own; ours is so much longer, because killing ssh alone ends nothing there."""
LOST = 255
"""Exit status of ssh itself when there is no connection, or no longer."""


@dataclass(frozen=True)
class Address:
    """Where to: a name that may come from the user's ssh configuration, and what overrides it."""

    host: str
    user: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """``user@host``, ``user@host:2222``, ``user@[fe80::1]:2222``, each with or without ``ssh://``.

        Raises:
            EdgesegError: It is no address.
        """
        try:
            parts = urllib.parse.urlsplit("ssh://" + text.removeprefix("ssh:").removeprefix("//"))
            host, user, port = parts.hostname or "", parts.username or "", parts.port or 0
        except ValueError:
            host = user = ""
            parts, port = None, 0
        plain = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*")
        rest = parts is None or parts.path not in ("", "/") or parts.query or parts.password
        if not plain.fullmatch(host) or (user and not plain.fullmatch(user)) or rest:
            raise EdgesegError(f"{text!r} is no address of a machine", "write it as user@host or user@host:port")
        return cls(host, user, port)

    @property
    def target(self) -> str:
        """As ssh is told it, without the port."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        name = f"{self.user}@{host}" if self.user else host
        return f"{name}:{self.port}" if self.port else name


class Ssh:
    """A shared connection to one machine.

    Args:
        address: Where to.
        config: A configuration file instead of the user's own.
        trust_new_host: Accept and remember the key of a host that is not known yet.
        say: Told which key was accepted.

    Attributes:
        host_key: Kind and fingerprint of the key that the machine showed; empty before the first connection.
    """

    def __init__(
        self,
        address: Address,
        *,
        config: Path | None = None,
        trust_new_host: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.address = address
        self._config, self._trust, self._say = config, trust_new_host, say
        self._folder: Path | None = None
        self.host_key = ""

    def connect(self) -> None:
        """Make the connection, or find that it is there.

        Raises:
            MissingDependency: There is no ssh on this machine.
            DeviceUnreachable: The machine does not answer, or its key or ours is not accepted.
        """
        if shutil.which("ssh") is None:
            raise MissingDependency("there is no ssh on this machine", "sudo apt install openssh-client")
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="edgeseg-ssh-"))  # short: a socket's path has 104 bytes at most
        if self._control("check"):
            return
        log = self._folder / "log"
        log.unlink(missing_ok=True)
        # What it says goes to files, because the connection stays in the background and would keep our pipes open; so
        # would the one to a jump host, whose complaints (and host key) come on the error output.
        command = ["ssh", "-v", "-E", str(log), "-f", "-N", *self._options(quiet=False), "--", self.address.target]
        aside = ["sh", "-c", 'exec "$@" >/dev/null 2>"$0"', f"{log}-aside"]
        try:
            done = process.run([*aside, *command], timeout_s=CONNECT_S + GRACE_S)
        except process.Timeout as error:
            raise DeviceUnreachable(f"{self.address} did not answer within {CONNECT_S} s") from error
        told, beside = (
            path.read_text(errors="replace") if path.exists() else "" for path in (log, Path(f"{log}-aside"))
        )
        if done.returncode != 0:
            raise self._refusal(told + beside)
        self.host_key = key = _host_key(told)
        if "Permanently added" in told and key:
            self._say(f"the host key of {self.address} was accepted and is known from now on: {key}")

    def run(
        self, script: str, arguments: Sequence[str] = (), *, timeout_s: float, stdin: IO[bytes] | None = None
    ) -> Finished:
        """Run a shell script there.

        Args:
            script: For ``sh``, whatever the login shell is.
            arguments: Its ``$1``, ``$2``, …; quoted here.
            timeout_s: It is killed there after so many seconds.
            stdin: An open file that it reads.

        Raises:
            DeviceUnreachable: There is no connection, or it broke.
            Timeout: The limit passed here as well.
        """
        self.connect()
        command = self._command(["timeout", "-s", "KILL", f"{timeout_s:g}", "sh", "-c", script, "sh", *arguments])
        done = process.run(command, timeout_s=timeout_s + GRACE_S, stdin=stdin)
        if done.returncode == LOST:
            raise self._refusal(done.stderr)
        return done

    def channel(self, script: str, arguments: Sequence[str] = ()) -> Channel:
        """Start a shell script there and talk to it line by line; the script sees to its own time limit.

        Raises:
            DeviceUnreachable: There is no connection.
        """
        self.connect()
        return Channel(self._command(["sh", "-c", script, "sh", *arguments]))

    def cut(self) -> None:
        """End the connection under everything that runs over it, from another thread; the next command makes a new one."""
        if self._folder is not None:
            self._control("exit")

    def close(self) -> None:
        """End the connection; safe to call twice."""
        if self._folder is not None:
            self._control("exit")
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _command(self, words: Sequence[str]) -> list[str]:
        return ["ssh", *self._options(quiet=True), "--", self.address.target, shlex.join(words)]

    def _options(self, *, quiet: bool) -> list[str]:
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new" if self._trust else "yes",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": str(ALIVE_S),
            "ServerAliveCountMax": str(ALIVE_COUNT),
            "ControlMaster": "auto",
            "ControlPath": f"{self._folder}/%C",
            "ControlPersist": "60",  # should we be killed, it ends by itself
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "RequestTTY": "no",
            "RemoteCommand": "none",
        }
        if quiet:
            settings["LogLevel"] = "ERROR"
        words = ["-F", str(self._config)] if self._config else []
        words += [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return [*words, "-p", str(self.address.port)] if self.address.port else words

    def _control(self, what: str) -> bool:
        command = ["ssh", "-O", what, *self._options(quiet=True), "--", self.address.target]
        try:
            return process.run(command, timeout_s=10).returncode == 0
        except process.Timeout:
            return False

    def _refusal(self, told: str) -> DeviceUnreachable:
        """What ssh complained of, as two lines."""
        where = str(self.address)
        name = f"[{self.address.host}]:{self.address.port}" if self.address.port else self.address.host
        key = _host_key(told)
        shown = f" ({key})" if key else ""
        if "IDENTIFICATION HAS CHANGED" in told:
            return DeviceUnreachable(
                f"the host key of {where} is another one than before{shown}: it is another machine, or was set up anew",
                f"if you know why: ssh-keygen -R '{name}', then again with --trust-new-host",
            )
        if "Host key verification failed" in told or "key is known for" in told:
            return DeviceUnreachable(
                f"the host key of {where} is not known{shown}",
                "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there, "
                "then again with --trust-new-host, which accepts it",
            )
        if "Permission denied" in told:
            return DeviceUnreachable(
                f"{where} accepts none of your ssh keys",
                f"ssh-copy-id {'-p ' + str(self.address.port) + ' ' if self.address.port else ''}{self.address.target}",
            )
        lines = [line.strip() for line in told.splitlines() if line.strip() and not line.startswith("debug")]
        noise = ("OpenSSH_", "Authenticated to", "Transferred:", "Bytes per second")
        lines = [line for line in lines if not line.startswith(noise)]
        reason = (
            re.sub(
                r"^(ssh|kex_exchange_identification|client_loop|mux_client\w*): (Could not|connect to)",
                r"\2",
                lines[-1],
            )
            if lines
            else "ssh gave no reason"
        )
        return DeviceUnreachable(f"{where} cannot be reached: {reason}")


def _host_key(log: str) -> str:
    """Kind and fingerprint of the key that the host showed, from ssh's debug log."""
    found = re.search(r"Server host key: (\S+ SHA256:\S+)", log)
    return found.group(1) if found else ""
