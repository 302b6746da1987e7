"""A server of adb without devices: it speaks the protocol to the real ``adb`` client, and runs the commands on this machine.

Protocol: ``SERVICES.TXT`` and ``OVERVIEW.TXT`` of AOSP's adb; the shell protocol of ``shell_protocol.h``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import struct
import subprocess
import threading
from pathlib import Path

VERSION = 41
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


class FakeAdb:
    """A running server.

    Args:
        tools: Folder of programs that come before those of this machine.

    Attributes:
        states: Serial to state; may be changed while it runs.
        asked: Every service that was asked for.
        addresses: What ``adb connect`` finds.
    """

    def __init__(self, tools: Path) -> None:
        self.tools = tools
        self.states: dict[str, str] = {"FAKE0001": "device"}
        self.addresses: set[str] = set()
        self.asked: list[str] = []
        self._children: set[subprocess.Popen[bytes]] = set()
        self._connections: set[socket.socket] = set()
        fake = self

        class Visit(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                fake._serve(self.request)

        class Threads(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Threads(("127.0.0.1", 0), Visit)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def pull_the_cable(self) -> None:
        """End every command that runs there, and let no more come."""
        self.states = {}
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for child in list(self._children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def close(self) -> None:
        self.pull_the_cable()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, connection: socket.socket) -> None:
        serial = ""
        try:
            while True:
                service = self._read(connection, int(self._read(connection, 4), 16)).decode()
                self.asked.append(service)
                if service == "host:version":
                    return self._answer(connection, f"{VERSION:04x}")
                if service in ("host:devices", "host:devices-l"):
                    return self._answer(
                        connection, "".join(f"{name}\t{state}\n" for name, state in self.states.items())
                    )
                if service.startswith("host:connect:"):
                    return self._connect(connection, service.removeprefix("host:connect:"))
                if service.startswith("host:disconnect:") or service == "host:kill":
                    return self._answer(connection, "gone")
                if service.endswith(":features") or service == "host:host-features":
                    return self._answer(connection, "shell_v2,cmd")
                if service.startswith("host-serial:"):
                    name = service.removeprefix("host-serial:").rpartition(":")[0]
                    state = self.states.get(name)
                    return (
                        self._answer(connection, state)
                        if state
                        else self._fail(connection, f"device '{name}' not found")
                    )
                if service.startswith(("host:transport:", "host:tport:serial:")):
                    serial = service.split(":", 3 if "tport" in service else 2)[-1]
                    if self.states.get(serial) != "device":
                        return self._fail(connection, f"device {self.states.get(serial, 'not found')}")
                    connection.sendall(b"OKAY" + (struct.pack("<Q", 1) if "tport" in service else b""))
                elif service.startswith("reverse:"):
                    return connection.sendall(b"OKAYOKAY")
                elif service.startswith("shell,v2"):
                    connection.sendall(b"OKAY")
                    return self._shell(connection, service.partition(":")[2])
                else:
                    return self._fail(connection, f"unknown service {service}")
        except (OSError, EOFError, ValueError):
            return None

    def _connect(self, connection: socket.socket, address: str) -> None:
        if address in self.addresses:
            self.states[address] = "device"
            return self._answer(connection, f"connected to {address}")
        return self._answer(connection, f"failed to connect to {address}")

    def _shell(self, connection: socket.socket, command: str) -> None:
        variables = {**os.environ, "PATH": f"{self.tools}:/usr/bin:/bin", "HOME": "/"}
        child = subprocess.Popen(
            ["/bin/sh", "-c", command], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._children.add(child)
        self._connections.add(connection)
        lock = threading.Lock()

        def send(kind: int, content: bytes) -> None:
            with lock:
                connection.sendall(struct.pack("<BI", kind, len(content)) + content)

        def pump(kind: int, pipe) -> None:
            while block := os.read(pipe.fileno(), 1 << 16):
                try:
                    send(kind, block)
                except OSError:
                    return

        def feed() -> None:
            try:
                while True:
                    kind, size = struct.unpack("<BI", self._read(connection, 5))
                    content = self._read(connection, size)
                    if kind == STDIN:
                        child.stdin.write(content)
                        child.stdin.flush()
                    elif kind == CLOSE_STDIN:
                        child.stdin.close()
            except (OSError, EOFError, ValueError):
                with contextlib.suppress(OSError):  # the client hung up: adbd closes the command's pipes
                    child.stdin.close()

        pumps = [
            threading.Thread(target=pump, args=pair, daemon=True) for pair in ((1, child.stdout), (2, child.stderr))
        ]
        threading.Thread(target=feed, daemon=True).start()
        for one in pumps:
            one.start()
        for one in pumps:
            one.join()
        code = child.wait()
        self._children.discard(child)
        self._connections.discard(connection)
        with contextlib.suppress(OSError):
            send(EXIT, bytes([code if code >= 0 else 128 - code]))

    def _read(self, connection: socket.socket, size: int) -> bytes:
        content = b""
        while len(content) < size:
            block = connection.recv(size - len(content))
            if not block:
                raise EOFError
            content += block
        return content

    def _answer(self, connection: socket.socket, text: str) -> None:
        connection.sendall(b"OKAY" + f"{len(text):04x}{text}".encode())

    def _fail(self, connection: socket.socket, text: str) -> None:
        connection.sendall(b"FAIL" + f"{len(text):04x}{text}".encode())


def with_shutdown(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
