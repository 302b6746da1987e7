"""Runs inside the namespaces of the stand-in of a phone, started by file: adbd in its bare root, and the one way to it.

adbd listens on every interface and on vsock, and asks nobody who comes. Here it has a network of its own in which there is
nothing but a loopback, and no vsock; what reaches it comes through a socket that was opened outside, on loopback, and is
handed on here.

python _standin_inside.py LISTENER ROOT COMMAND…
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import platform
import socket
import struct
import subprocess
import sys

PORT = 5555
AF_VSOCK = 40
SHELL = 2000
"""User and group of Android's ``shell``."""
_SOCKET_CALL = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""By machine: the kernel's name of its calls, and the number of `socket` among them."""
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def forbid_vsock() -> None:
    """Let no process that comes from here open an AF_VSOCK socket: a network namespace does not hold these."""
    arch, number = _SOCKET_CALL[platform.machine()]
    program = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_IF_EQUAL, 0, 5, arch),
        (_LOAD, 0, 0, 0),  # .nr
        (_IF_EQUAL, 0, 3, number),
        (_LOAD, 0, 0, 16),  # .args[0]
        (_IF_EQUAL, 0, 1, AF_VSOCK),
        (_RETURN, 0, 0, _ERRNO | 97),  # EAFNOSUPPORT
        (_RETURN, 0, 0, _ALLOW),
    ]
    content = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(content))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_SET_SECCOMP, _FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "vsock cannot be forbidden")


def loopback_up() -> None:
    """A new network's loopback is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    writer.close()


async def _visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        inner, outer = await asyncio.open_connection("127.0.0.1", PORT)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_hand_on(reader, outer), _hand_on(inner, writer))


async def _relay(listener: socket.socket) -> None:
    async with await asyncio.start_server(_visit, sock=listener) as server:
        await server.serve_forever()


def main() -> None:
    """Start adbd; hand connections on until it ends."""
    descriptor, root, *command = sys.argv[1:]
    loopback_up()
    forbid_vsock()
    child = subprocess.Popen(["chroot", f"--userspec={SHELL}:{SHELL}", root, *command], stdin=subprocess.DEVNULL)
    if os.fork() == 0:
        asyncio.run(_relay(socket.socket(fileno=int(descriptor))))
    raise SystemExit(child.wait())


if __name__ == "__main__":
    main()
