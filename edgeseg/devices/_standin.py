"""A stand-in for a Raspberry Pi: Debian for arm64 in a folder, run by QEMU's user emulation, behind a real sshd.

What runs in it is the real thing: Debian's Python, the aarch64 wheels, the kernels that they choose for a Cortex-A53,
A72 or A76. Its time is not: it is 50 to 200 times as slow as this machine, by different factors for different kernels.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from edgeseg.core import environments, process
from edgeseg.devices import _standin_base, _standin_board
from edgeseg.devices._standin_base import EmulatedBox, free_port

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
TOOLS = {**_standin_base.TOOLS, "ssh-keygen": "openssh-client"}

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
_RUN = (
    r"""
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
child=$!
"""
    + _standin_base.WAIT
)


def install_command(suite: str = SUITE) -> str:
    """What a user types to get it."""
    return INSTALL_COMMAND if suite == SUITE else f"{INSTALL_COMMAND}:{suite}"


def place(suite: str = SUITE) -> Path:
    """Where it is, or would be."""
    text = "\n".join([suite, *PACKAGES, _ACCOUNTS, _SHADOW, _GROUP, _VCGENCMD])
    return environments.cache_root() / "stand-ins" / f"pi-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def missing() -> list[str]:
    """Debian packages that are needed and not here."""
    return _standin_base.missing(TOOLS)


def install(say: Callable[[str], None], suite: str = SUITE) -> Path:
    """Make the folder, unless it is there already.

    Args:
        say: Told what takes long.
        suite: One of `SUITES`.

    Raises:
        MissingDependency: We are not root, tools are missing, or Debian's packages cannot be fetched.
    """
    words = [f"--include={','.join(PACKAGES)}"]
    return _standin_base.install("pi-emulated", place(suite), TOOLS, suite, words, _finish, say, size="250 MB")


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


class StandIn(EmulatedBox):
    """A running stand-in of a Pi; see `EmulatedBox`.

    Args:
        core: ``a53``, ``a72`` or ``a76``.
        suite: One of `SUITES`.
        extra: Shell commands that change its root folder before it starts, for tests; they see ``$root``.
    """

    def __init__(self, core: str, *, suite: str = SUITE, extra: str = "") -> None:
        self.port = free_port()
        self._core = core
        self.what = f"stand-in of a Pi ({suite})"
        super().__init__(place(suite), install_command(suite), extra=extra)

    @property
    def config(self) -> Path:
        """Its configuration for ssh."""
        return self.folder / "ssh_config"

    def _prepare(self) -> None:
        _standin_board.write(self.folder / "board", [_standin_board.MODELS[self._core]] * _standin_board.CORES)
        self.config.write_text(self._configuration())

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", _RUN, "sh"]
        words += [str(self.root), str(self.folder / "board"), self._core, str(self.port), self._extra]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)

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
