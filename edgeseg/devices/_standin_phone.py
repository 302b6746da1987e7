"""A stand-in for an Android phone: Debian's real adbd for arm64, run by QEMU's user emulation, in a root folder that has no C
library of its own, with the shell and the tools of Android: mksh and toybox.

So the protocol, the pushing, the exit codes, the shell scripts and the Arm kernels of the runtimes meet the real thing, and what is
pushed has to bring its own loader and libraries as it has to on a phone. Not a phone's are the kernel, SELinux, bionic, the
question whether this computer is trusted, and the time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from edgeseg.core import environments, process
from edgeseg.devices import _standin_base, _standin_board, _standin_inside
from edgeseg.devices._standin_base import EmulatedBox
from edgeseg.devices._standin_board import Model

SUITE = "bookworm"
OPTIONS = (
    f'--aptopt=APT::Default-Release "{SUITE}-backports"',
    # Backports, from where the suite itself comes from.
    f"--setup-hook=cd \"$1/etc/apt\" && sed -n 's/ {SUITE} main$/ {SUITE}-backports main/p' sources.list > sources.list.d/backports.list",
    "--include=adbd,toybox,mksh,busybox-static",
)
INSTALL_COMMAND = "sudo edgeseg doctor --install android-emulated"
THROTTLING = "dumpsys-thermalservice"

_A55 = Model("edgeseg stand-in phone", ("edgeseg,phone", "edgeseg,soc55"), 0xD05, 1, 0, _standin_board.DOT, 1_800_000)
_A76 = Model("edgeseg stand-in phone", ("edgeseg,phone", "edgeseg,soc55"), 0xD0B, 4, 1, _standin_board.DOT, 2_400_000)
QEMU_CPU = "cortex-a76"

_TOYBOX = """#!/system/bin/sh
exec /standin/ld-linux-aarch64.so.1 --library-path /standin /standin/toybox {name} "$@"
"""
"""Debian's toybox is not a static program, and its libraries must not be found by what is pushed."""
_BUSYBOX = ("dd", "gzip", "tr")
"""Tools of Android's toybox that Debian's was made without."""
_GETPROP = """#!/system/bin/sh
while IFS='=' read -r name value; do
  [ -z "$1" ] && echo "[$name]: [$value]"
  [ "$1" = "$name" ] && echo "$value"
done < /standin/told/properties
"""
_DUMPSYS = """#!/system/bin/sh
cat "/standin/told/dumpsys-$1" 2>/dev/null || echo "Can't find service: $1"
"""
_AM = """#!/system/bin/sh
echo "$@" >> /tmp/am
echo "Starting: Intent { act=$3 dat=$5 }"
"""
TOLD = {
    "properties": """ro.product.manufacturer=edgeseg
ro.product.model=Stand-in phone
ro.product.cpu.abi=arm64-v8a
ro.build.version.release=14
ro.build.version.sdk=34
ro.soc.manufacturer=edgeseg
ro.soc.model=SOC55
ro.hardware=qemu
ro.serialno=STANDIN
""",
    "dumpsys-battery": """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  status: 2
  health: 2
  present: true
  level: 83
  scale: 100
  voltage: 4187
  temperature: 294
  technology: Li-ion
""",
    THROTTLING: """IsStatusOverride: false
ThermalEventListeners:
	callbacks: 2
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=33.1, mType=3, mName=skin, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=41.7, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=43.2, mType=0, mName=CPU1, mStatus=0}
	Temperature{mValue=33.4, mType=3, mName=skin, mStatus=0}
	Temperature{mValue=29.4, mType=2, mName=battery, mStatus=0}
""",
    "dumpsys-power": """POWER MANAGER (dumpsys power)
Power Manager State:
  mWakefulness=Awake
  mIsPowered=true
""",
}
"""What its programs answer, by file; a running stand-in's can be changed."""

# The shell that sets it up is the first process of its namespace, and a native one; see the stand-in of a Pi.
_RUN = (
    r"""
set -e
root=$1 here=$2 extra=$3; shift 3
mount -t proc proc "$root/proc"
mount --bind "$here/board/cpuinfo" "$root/proc/cpuinfo"
mount --rbind /dev "$root/dev"
mount --bind "$here/board/sys" "$root/sys"
mount --bind "$here/told" "$root/standin/told"
mount --bind "$here/data" "$root/data"
mount --bind "$here/tmp" "$root/tmp"
eval "$extra"
"$@" &
child=$!
"""
    + _standin_base.WAIT
)


def place() -> Path:
    """Where it is, or would be."""
    text = "\n".join([*OPTIONS, _TOYBOX, *_BUSYBOX, _GETPROP, _DUMPSYS, _AM])
    return environments.cache_root() / "stand-ins" / f"phone-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def missing() -> list[str]:
    """Debian packages that are needed and not here."""
    return _standin_base.missing({**_standin_base.TOOLS, "adb": "adb"})


def install(say: Callable[[str], None]) -> Path:
    """Make the folder, unless it is there already.

    Raises:
        MissingDependency: We are not root, tools are missing, or Debian's packages cannot be fetched.
    """
    tools = {**_standin_base.TOOLS, "adb": "adb"}
    return _standin_base.install("android-emulated", place(), tools, SUITE, OPTIONS, _finish, say, size="20 MB")


def _finish(folder: Path, debian: Path) -> None:
    """Make the bare root of what Debian's packages brought: adbd and toybox with their libraries in one folder that no path leads
    to, and a static mksh.
    """
    root = folder / "bare"
    programs, own = root / "system/bin", root / "standin"
    for name in ("system/bin", "standin/told", "data", "tmp", "proc", "sys", "dev", "etc"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("system/bin")
    (root / "etc/edgeseg-standin").write_text("QEMU\n")
    libraries = ("lib/ld-linux-aarch64.so.1", "lib/aarch64-linux-gnu/*.so*", "usr/lib/aarch64-linux-gnu/*.so*")
    tools = (
        "usr/lib/aarch64-linux-gnu/android/*.so*",
        "usr/lib/android-sdk/platform-tools/adbd",
        "bin/toybox",
        "bin/busybox",
    )
    for pattern in (*libraries, *tools):
        for path in debian.glob(pattern):
            shutil.copy(path.resolve() if path.is_symlink() else path, own / path.name)
    shutil.copy(debian / "usr/lib/klibc/bin/mksh", programs / "sh")
    listed = process.run(["qemu-aarch64-static", "-L", str(debian), str(debian / "bin/toybox")], timeout_s=60)
    for name in listed.stdout.split():
        (programs / name).write_text(_TOYBOX.format(name=name))
        (programs / name).chmod(0o755)
    for name in _BUSYBOX:
        (programs / name).symlink_to("/standin/busybox")
    for name, content in {"getprop": _GETPROP, "dumpsys": _DUMPSYS, "am": _AM}.items():
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    shutil.rmtree(debian)
    root.rename(debian)


class PhoneStandIn(EmulatedBox):
    """A running stand-in of a phone; see `EmulatedBox`. Its ``/data`` is new each time.

    Attributes:
        port: Of loopback, where adb reaches it.
    """

    what = "stand-in of a phone"

    def __init__(self, *, extra: str = "") -> None:
        self._listener = _standin_base.listening()
        self.port = int(self._listener.getsockname()[1])
        try:
            super().__init__(place(), INSTALL_COMMAND, extra=extra)
        except BaseException:
            self._listener.close()
            raise

    @property
    def serial(self) -> str:
        """As adb calls it."""
        return f"127.0.0.1:{self.port}"

    @property
    def temporary(self) -> Path:
        """Its ``/data/local/tmp``."""
        return self.folder / "data/local/tmp"

    def told(self, name: str) -> Path:
        """A file of `TOLD`, to be changed while it runs."""
        return self.folder / "told" / name

    def inside(self) -> list[str]:
        """The words before a command of this machine that make it run in the phone's network."""
        assert self._child is not None, "it runs"
        (first,) = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
        return ["nsenter", f"--net=/proc/{first}/ns/net"]

    def close(self) -> None:
        """End it; nothing of its ``/data`` stays."""
        super().close()
        self._listener.close()

    def _prepare(self) -> None:
        # As many cores as there are here: the kernel refuses to bind a program to one that there is not.
        count = max(2, os.cpu_count() or 2)
        _standin_board.write(self.folder / "board", [_A55] * (count // 2) + [_A76] * (count - count // 2))
        for name in ("told", "data/local/tmp", "tmp"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "tmp").chmod(0o1777)
        self.temporary.chmod(0o771)
        os.chown(self.temporary, _standin_inside.SHELL, _standin_inside.SHELL)
        self.folder.chmod(0o755)
        for name, text in TOLD.items():
            self.told(name).write_text(text)

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        descriptor = self._listener.fileno()
        words = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child=KILL", "sh", "-c", _RUN, "sh"]
        words += [str(self.root), str(self.folder), self._extra]
        words += [sys.executable, "-I", _standin_inside.__file__, str(descriptor), str(self.root)]
        words += ["/system/bin/env", "-i", "PATH=/system/bin", "HOME=/", f"QEMU_CPU={QEMU_CPU}"]
        words += [f"ADBD_PORT={_standin_inside.PORT}", "/standin/ld-linux-aarch64.so.1", "--library-path", "/standin"]
        return subprocess.Popen(
            [*words, "/standin/adbd"], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            pass_fds=[descriptor],
        )  # fmt: skip

    def _answers(self) -> bool:
        """Whether adbd is there: it waits for a word, and the relay hangs up where there is no adbd."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as connection:
                return bool(connection.recv(1))
        except TimeoutError:
            return True
        except OSError:
            return False
