"""What the stand-ins of boards and phones have in common: Debian's arm64 packages in a folder, run by QEMU's user emulation
in namespaces of their own."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgeseg.core import atomic, process
from edgeseg.core.errors import DeviceUnreachable, MissingDependency
from edgeseg.core.process import signal_name

TOOLS = {
    "mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static", "update-binfmts": "binfmt-support",
    "unshare": "util-linux",
}  # fmt: skip
"""Program to Debian package."""
BUILD_S = 900
START_S = 60.0

WAIT = r"""
exec 3<&0
trap 'exit 1' TERM
(cat <&3 > /dev/null; kill -s TERM $$) &
wait "$child"
"""
"""How the shell that is the first process of a stand-in ends: with `$child`, or when its input does, which is a pipe from us. So
it ends with us, however we end."""

_BINFMT = Path("/proc/sys/fs/binfmt_misc")


def missing(tools: Mapping[str, str]) -> list[str]:
    """Debian packages that are needed and not here.

    Args:
        tools: Program to package.
    """
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [package for tool, package in tools.items() if shutil.which(tool, path=path) is None]


def install(
    name: str,
    target: Path,
    tools: Mapping[str, str],
    suite: str,
    words: Sequence[str],
    finish: Callable[[Path, Path], None],
    say: Callable[[str], None],
    *,
    size: str,
) -> Path:
    """Make the folder of a stand-in, unless it is there already.

    Args:
        name: The device, for messages.
        target: Its folder.
        tools: Programs that are needed, and their packages.
        suite: Debian's.
        words: Options of mmdebstrap.
        finish: Given the folder and the root folder in it, writes what the packages do not bring.
        say: Told what takes long.
        size: Of the folder, for the user.

    Raises:
        MissingDependency: We are not root, tools are missing, or Debian's packages cannot be fetched.
    """
    if target.is_dir():
        say(f"{name}: already in {target}")
        return target
    check_root()
    if lacking := missing(tools):
        raise MissingDependency(f"{name} needs {', '.join(lacking)}", f"sudo apt install {' '.join(lacking)}")
    say(f"{name}: Debian {suite} for arm64 in {target} ({size})")
    with atomic.folder(target) as folder:
        root = folder / "root"
        unpack(suite, root, words)
        finish(folder, root)
    say(f"{name}: ready in {target}")
    return target


def unpack(suite: str, target: Path, options: Sequence[str]) -> None:
    """Unpack Debian's packages for arm64 without configuring them, so that no program of theirs has to run.

    Args:
        suite: Debian's.
        target: A folder, or a file that ends in ``.tar``.
        options: Further options of mmdebstrap, such as ``--include``.

    Raises:
        MissingDependency: They cannot be fetched.
    """
    command = ["mmdebstrap", "--quiet", "--arch=arm64", "--variant=extract", *options, suite, str(target)]
    done = process.run(command, timeout_s=BUILD_S)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith(("E:", "mmdebstrap:"))]
        raise MissingDependency(
            f"Debian {suite} for arm64 cannot be fetched: {(errors or [done.last_words])[0]}",
            "it needs internet, and: sudo apt install debian-archive-keyring",
        )


class EmulatedBox:
    """A running stand-in; it ends with us, however we end. A subclass says what runs in it.

    Args:
        source: Its folder, with the root folder in it.
        install_command: What the user types to get it.
        extra: Shell commands that change its root folder before it starts, for tests; they see ``$root``.

    Raises:
        MissingDependency: It is not installed, or we are not root.
        DeviceUnreachable: It does not start, or is in use.
    """

    what = "stand-in"

    def __init__(self, source: Path, install_command: str, *, extra: str = "") -> None:
        if not source.is_dir():
            raise MissingDependency(f"the {self.what} is not installed", install_command)
        check_root()
        enable_binfmt()
        self.root = source / "root"
        self.folder = Path(tempfile.mkdtemp(prefix="edgeseg-box-"))
        self._source, self._install_command, self._extra = source, install_command, extra
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = (source / "lock").open("w")
        try:  # its files are shared, its processes are not: two would take one another's jobs for dead
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise DeviceUnreachable(
                f"the {self.what} is in use by another run",
                "wait for that, or install a second one in a cache folder of its own: EDGESEG_CACHE_DIR=DIR",
            ) from error
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start what runs in it, again if it was ended."""
        with (self.folder / "log").open("wb") as log:
            self._child = self._spawn(log.fileno())
        until = time.monotonic() + START_S
        while not self._answers():
            code = self._child.poll()
            if code is not None or time.monotonic() > until:
                lines = (self.folder / "log").read_text(errors="replace").split("\n")
                told = next((line for line in reversed(lines) if line.strip()), "")
                ended = f"ended by {signal_name(-code)}" if code is not None and code < 0 else "did not answer"
                raise DeviceUnreachable(
                    f"the {self.what} {ended}: {told}", f"its log may say more; or again: {self._install_command}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """End it and everything in it, at once."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def close(self) -> None:
        """End it; its files stay for the next time."""
        self.stop()
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def namespace(self) -> Path:
        """The process namespace of everything that runs in it, as ``/proc`` names it."""
        assert self._child is not None, "it runs"
        return Path(f"/proc/{self._child.pid}/ns/pid_for_children").readlink()

    def sys(self, name: str) -> Path:
        """A file of its ``/sys``, to be changed while it runs."""
        return self.folder / "board/sys" / name

    def _prepare(self) -> None:
        """Write what it needs into `folder`, before the first start."""
        raise NotImplementedError

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        """Start its first process."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether it can be talked to."""
        raise NotImplementedError


def check_root() -> None:
    """Raises MissingDependency unless we are root."""
    if os.geteuid() != 0:
        raise MissingDependency(
            "a stand-in needs root: it mounts and changes its root folder", "run the same command with sudo"
        )


def enable_binfmt() -> None:
    """Have the kernel start arm64 programs with QEMU."""
    if not (_BINFMT / "status").exists():
        process.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], timeout_s=30)
    if not (_BINFMT / "qemu-aarch64").exists():
        process.run(["update-binfmts", "--enable", "qemu-aarch64"], timeout_s=30)
    if not (_BINFMT / "qemu-aarch64").exists():
        raise MissingDependency(
            "this kernel does not start arm64 programs with QEMU",
            "sudo apt install qemu-user-static binfmt-support && sudo update-binfmts --enable qemu-aarch64",
        )


def listening() -> socket.socket:
    """A socket that listens on loopback, on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.set_inheritable(True)
    return listener


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
