"""What a board behind ssh is, asked in one round trip with a shell script: there may be no Python on it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core import process
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.transports.ssh import Ssh

OLDEST_PYTHON = (3, 9)

_SCRIPT = r"""
p() { printf '%s\t%s\n' "$1" "$2"; }
p arch "$(uname -m)"
p bits "$(getconf LONG_BIT 2>/dev/null)"
p system "$(uname -s)"
p glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
p os "$(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"
p model "$(tr -d '\000' < /sys/firmware/devicetree/base/model 2>/dev/null)"
for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  p python "$version $python"
done
cache=${XDG_CACHE_HOME:-$HOME/.cache}/edgeseg/device
p cache "$cache"
why=$(mkdir -p "$cache/jobs" 2>&1 && touch "$cache/.try" 2>&1 && rm -f "$cache/.try" 2>&1) || p unwritable "$why"
find "$cache" -maxdepth 2 -name '.*.part' -mmin +60 -exec rm -rf {} + 2>/dev/null
for job in "$cache"/jobs/*; do
  [ -d "$job" ] || continue
  kill -0 "$(cat "$job/pid" 2>/dev/null)" 2>/dev/null || rm -rf "/tmp/perf-$(cat "$job/worker" 2>/dev/null).map" "$job"
done
p end end
"""


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes:
        arch: As ``uname -m`` says: ``aarch64``, ``armv7l``, ``x86_64``.
        bits: Of its programs: a 64-bit kernel may carry a 32-bit system.
        glibc: Version of the C library; (0, 0): another C library.
        python: The command of its Python.
        version: Of that Python.
        cache: Folder of everything that edgeseg puts there.
        os: Its system, as it calls itself.
        model: From the device tree; empty where there is none.
    """

    arch: str
    bits: int
    glibc: tuple[int, int]
    python: str
    version: tuple[int, int]
    cache: str
    os: str
    model: str


def probe(ssh: Ssh) -> Board:
    """Ask a board what it is, make its cache folder and sweep what a killed run left there.

    Raises:
        DeviceUnreachable: It does not answer, or has no shell.
        EdgesegError: It has no Python that is new enough, or no place to write.
    """
    try:
        done = ssh.run(_SCRIPT, timeout_s=30)
    except process.Timeout as error:
        raise DeviceUnreachable(f"{ssh.address} took a command and did not end it: {error.message}") from error
    pairs = [line.partition("\t")[::2] for line in done.stdout.splitlines() if "\t" in line]
    told = dict(pairs)
    if "end" not in told:
        raise DeviceUnreachable(
            f"{ssh.address} answers, but runs no shell commands: {done.last_words}",
            f"ssh {ssh.address.target} uname -a has to work",
        )
    if told.get("system") != "Linux":
        raise EdgesegError(f"{ssh.address} runs {told.get('system')!r}, not Linux", "a board with Linux is needed")
    if "unwritable" in told:
        raise EdgesegError(
            f"{ssh.address}: nothing can be written to {told['cache']}: {told['unwritable']}",
            "make room and let the folder be written to, or log in as another user: --host user@name",
        )
    pythons = [value.split() for key, value in pairs if key == "python"]
    known = [(_version(version), command) for version, command in pythons]
    fitting = [one for one in known if one[0] >= OLDEST_PYTHON]
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if not fitting:
        had = f"only Python {'.'.join(map(str, known[0][0]))}" if known else "no Python"
        raise EdgesegError(
            f"{ssh.address} has {had}; the worker needs {oldest} or newer",
            f"on it: sudo apt install python3 python3-venv (Pi OS Bookworm brings 3.11; found: {told['os'] or told['arch']})",
        )
    version, command = fitting[0]
    return Board(
        arch=told["arch"],
        bits=int(told["bits"] or 64),
        glibc=_version(told["glibc"].rpartition(" ")[2]),
        python=command,
        version=version,
        cache=told["cache"],
        os=told["os"],
        model=told["model"],
    )


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
