"""A stand-in for a Raspberry Pi: Debian for arm64 in a folder, run by QEMU's user emulation, behind a real sshd.

What runs in it is the real thing: Debian's Python, the aarch64 wheels, the kernels that they choose for a Cortex-A53,
A72 or A76. Its time is not: it is 50 to 200 times as slow as this machine, by different factors for different kernels.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgeseg.core import atomic, environments, process
from edgeseg.core.errors import DeviceUnreachable, MissingDependency
from edgeseg.core.process import signal_name
from edgeseg.devices import _standin_board

SUITES = ("bookworm", "trixie")
"""Debian's releases that Pi OS is made of, the usual one first: Python 3.11 with glibc 2.36, and 3.13 with 2.41."""
SUITE = SUITES[0]
PACKAGES = (
    "base-files", "bash", "coreutils", "dash", "diffutils", "findutils", "grep", "gzip", "libc-bin", "libstdc++6",
    "mawk",
    "openssh-server", "procps", "python3", "sed", "tar", "util-linux",
)  # fmt: skip
"""Unpacked and not configured, so that no maintainer script has to run under emulation: what they would have written
(accounts, ``sh``) is written here."""
INSTALL_COMMAND = "sudo edgeseg doctor --install pi-emulated"
TOOLS = {
    "mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static", "update-binfmts": "binfmt-support",
    "unshare": "util-linux", "ssh-keygen": "openssh-client",
}  # fmt: skip
"""Program to Debian package."""
BUILD_S = 900
START_S = 60.0

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_ACCOUNTS = """root:x:0:0:root:/root:/bin/bash
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
pi:x:1000:1000::/home/pi:/bin/bash
nobody:x:65534:65534::/:/usr/sbin/nologin
"""
_SHADOW = "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\npi:*:19000:0:99999:7:::\n"
_GROUP = "root:x:0:\nvideo:x:44:pi\npi:x:1000:\nnogroup:x:65534:\n"
_VCGENCMD = f"""#!/bin/sh
[ "$1" = get_throttled ] && read -r bits < /sys/{_standin_board.THROTTLED} && echo "throttled=0x$bits"
"""
# The shell that sets it up is the first process of its namespace, and a native one: with it everything else ends, and an
# emulated first process that crashed would hang for ever.
_RUN = r"""
set -e
root=$1 board=$2 core=$3 extra=$5
mount -t proc proc "$root/proc"
mount --bind "$board/cpuinfo" "$root/proc/cpuinfo"
mount --rbind /dev "$root/dev"
mount --bind "$board/sys" "$root/sys"
eval "$extra"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin QEMU_CPU="cortex-$core" /usr/sbin/sshd -D -e \
  -f /dev/null -h /etc/ssh/host_key -p "$4" -o ListenAddress=127.0.0.1 -o PasswordAuthentication=no \
  -o PermitRootLogin=no -o UsePAM=no -o PidFile=none -o SetEnv="QEMU_CPU=cortex-$core" &
wait
"""


def install_command(suite: str = SUITE) -> str:
    """What a user types to get it."""
    return INSTALL_COMMAND if suite == SUITE else f"{INSTALL_COMMAND}:{suite}"


def place(suite: str = SUITE) -> Path:
    """Where it is, or would be."""
    text = "\n".join([suite, *PACKAGES, _ACCOUNTS, _SHADOW, _GROUP, _VCGENCMD])
    return environments.cache_root() / "stand-ins" / f"pi-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def missing() -> list[str]:
    """Debian packages that are needed and not here."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None]


def install(say: Callable[[str], None], suite: str = SUITE) -> Path:
    """Make the folder, unless it is there already.

    Args:
        say: Told what takes long.
        suite: One of `SUITES`.

    Raises:
        MissingDependency: We are not root, tools are missing, or Debian's packages cannot be fetched.
    """
    target = place(suite)
    if target.is_dir():
        say(f"pi-emulated: already in {target}")
        return target
    _check_root()
    if lacking := missing():
        raise MissingDependency(
            f"the stand-in of a Pi needs {', '.join(lacking)}", f"sudo apt install {' '.join(lacking)}"
        )
    say(f"pi-emulated: Debian {suite} for arm64 in {target} (250 MB)")
    with atomic.folder(target) as folder:
        root = folder / "root"
        command = ["mmdebstrap", "--quiet", "--arch=arm64", "--variant=extract", f"--include={','.join(PACKAGES)}"]
        done = process.run([*command, suite, str(root)], timeout_s=BUILD_S)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith(("E:", "mmdebstrap:"))]
            raise MissingDependency(
                f"Debian {suite} for arm64 cannot be fetched: {(errors or [done.last_words])[-1]}",
                "it needs internet, and: sudo apt install debian-archive-keyring",
            )
        _finish(folder, root)
    say(f"pi-emulated: ready in {target}")
    return target


def _finish(folder: Path, root: Path) -> None:
    """Write what the packages' scripts would have written, keys, and the marker that stamps its records."""
    for name, content in {"passwd": _ACCOUNTS, "shadow": _SHADOW, "group": _GROUP, "edgeseg-standin": "QEMU\n"}.items():
        (root / "etc" / name).write_text(content)
    if not (root / "bin/sh").exists():
        (root / "bin/sh").symlink_to("dash")
    vcgencmd = root / "usr/bin/vcgencmd"
    vcgencmd.write_text(_VCGENCMD)
    vcgencmd.chmod(0o755)
    home = root / "home/pi"
    (home / ".ssh").mkdir(parents=True)
    (root / "run/sshd").mkdir(parents=True, exist_ok=True)
    for key in (folder / "client_key", root / "etc/ssh/host_key"):
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "stand-in", "-f", str(key)], timeout_s=60)
    shutil.copy(folder / "client_key.pub", home / ".ssh/authorized_keys")
    for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
        os.chown(path, 1000, 1000)
    (home / ".ssh").chmod(0o700)


class StandIn:
    """A running stand-in; it ends with us, however we end.

    Args:
        core: ``a53``, ``a72`` or ``a76``.
        suite: One of `SUITES`.
        extra: Shell commands that change its root folder before it starts, for tests; they see ``$root``.

    Raises:
        MissingDependency: It is not installed, or we are not root.
        DeviceUnreachable: It does not start, or is in use.
    """

    def __init__(self, core: str, *, suite: str = SUITE, extra: str = "") -> None:
        source = place(suite)
        if not source.is_dir():
            raise MissingDependency(f"the stand-in of a Pi ({suite}) is not installed", install_command(suite))
        _check_root()
        _enable_binfmt()
        self.root = source / "root"
        self.folder = Path(tempfile.mkdtemp(prefix="edgeseg-pi-"))
        self.port = _free_port()
        self.config = self.folder / "ssh_config"
        self._source, self._core, self._extra = source, core, extra
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = (source / "lock").open("w")
        try:  # its files are shared, its processes are not: two would take one another's jobs for dead
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise DeviceUnreachable(
                "the stand-in is in use by another run",
                "wait for that, or install a second one in a cache folder of its own: EDGESEG_CACHE_DIR=DIR",
            ) from error
        _standin_board.write(self.folder / "board", _standin_board.MODELS[core])
        self.config.write_text(self._configuration())
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start its sshd, again if it was ended."""
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", _RUN, "sh"]
        words += [str(self.root), str(self.folder / "board"), self._core, str(self.port), self._extra]
        with (self.folder / "log").open("wb") as log:
            self._child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + START_S
        while not self._answers():
            code = self._child.poll()
            if code is not None or time.monotonic() > until:
                lines = (self.folder / "log").read_text(errors="replace").split("\n")
                told = next((line for line in reversed(lines) if line.strip()), "")
                ended = f"ended by {signal_name(-code)}" if code is not None and code < 0 else "did not answer"
                raise DeviceUnreachable(
                    f"the stand-in {ended}: {told}", f"its log may say more; or again: {INSTALL_COMMAND}"
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

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _configuration(self) -> str:
        key = (self.root / "etc/ssh/host_key.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key[0]} {key[1]}\n")
        client = self.folder / "client_key"
        shutil.copy(self._source / "client_key", client)
        client.chmod(0o600)
        return (
            f"Host *\n  IdentityFile {client}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.folder / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n"
        )


def _check_root() -> None:
    if os.geteuid() != 0:
        raise MissingDependency(
            "the stand-in of a Pi needs root: it mounts and changes its root folder", "run the same command with sudo"
        )


def _enable_binfmt() -> None:
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
