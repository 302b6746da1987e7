"""What an Android phone is, asked in one round trip with a shell script: there is no Python on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeseg.core import process, thermal
from edgeseg.core.errors import DeviceUnreachable, EdgesegError, unknown
from edgeseg.transports.shell import Shell

TEMPORARY = "/data/local/tmp"
"""The one folder in which adb's user may write and run programs."""
ABI = "arm64-v8a"
OLDEST_SDK = 24
"""Android 7: the first whose adbd tells exit statuses and keeps stderr apart."""

_PROPERTIES = (
    "ro.product.manufacturer", "ro.product.model", "ro.product.cpu.abi", "ro.build.version.release",
    "ro.build.version.sdk", "ro.soc.manufacturer", "ro.soc.model", "ro.board.platform", "ro.kernel.qemu", "ro.boot.qemu",
    "ro.serialno",
)  # fmt: skip
ALIVE = r"""
alive() { tr '\000' ' ' 2>/dev/null < "/proc/$(cat "$1/pid" 2>/dev/null)/cmdline" | grep -qF "$1"; }
"""
"""Whether a job's worker runs. Its process names the job's folder: a number alone may be another's since the phone was started
anew. toybox's `grep` sees nothing behind the first zero byte."""
_SCRIPT = (
    ALIVE
    + r"""
p() { printf '%s\t%s\n' "$1" "$2"; }
flat() { tr '\n\t' ';;'; }
folder=$1; shift
sh=/system/bin/sh; [ -x "$sh" ] || sh=/bin/sh
for name in "$@"; do p "$name" "$(getprop "$name" 2>/dev/null)"; done
for core in /sys/devices/system/cpu/cpu[0-9]*; do
  p core "${core##*/cpu} $(cat "$core/cpufreq/cpuinfo_max_freq" 2>/dev/null || echo 0)"
done
p governor "$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null)"
p battery "$(dumpsys battery 2>/dev/null | flat)"
p thermal "$(dumpsys thermalservice 2>/dev/null | flat)"
p wakefulness "$(dumpsys power 2>/dev/null | grep -m 1 mWakefulness=)"
why=$({ mkdir -p "$folder/jobs" && printf '#!%s\nexit 0\n' "$sh" > "$folder/.try" && chmod 700 "$folder/.try"; } 2>&1) || p unwritable "$why"
why=$("$folder/.try" 2>&1) || p unrunnable "$why"
rm -f "$folder/.try"
find "$folder" -maxdepth 2 -name '.*.part' -mmin +60 -exec rm -rf {} + 2>/dev/null
for job in "$folder"/jobs/*; do
  [ -d "$job" ] || continue
  alive "$job" || rm -rf "$job"
done
p end end
"""
)


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind.

    Attributes:
        cores: Their numbers.
        max_khz: Their highest clock; 0 where it is not told.
    """

    cores: tuple[int, ...]
    max_khz: int

    def __str__(self) -> str:
        clock = f" at {self.max_khz / 1e6:.2f} GHz" if self.max_khz else ""
        return f"{len(self.cores)}{clock} (cpu {', '.join(map(str, self.cores))})"


@dataclass(frozen=True)
class AndroidPhone:
    """A phone.

    Attributes:
        properties: What ``getprop`` says.
        clusters: Its cores, the slowest first.
        battery: Level, temperature and where its power comes from, as a sentence; empty where it is not told.
        heat: What its thermal service says.
        screen: ``on``, ``off``, or empty.
    """

    properties: Mapping[str, str]
    clusters: tuple[Cluster, ...]
    battery: str
    heat: thermal.Thermal
    screen: str

    @property
    def board(self) -> str:
        """Maker and model."""
        maker, model = self.properties["ro.product.manufacturer"], self.properties["ro.product.model"]
        return model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()

    @property
    def emulated(self) -> bool:
        """Whether it is one of Android's emulators, whose time means nothing."""
        return "1" in (self.properties["ro.kernel.qemu"], self.properties["ro.boot.qemu"])

    def described(self) -> dict[str, str]:
        """For `edgeseg.core.measurement.Hello.device`."""
        known = self.properties
        soc = f"{known['ro.soc.manufacturer']} {known['ro.soc.model']}".strip() or known["ro.board.platform"]
        said = {
            "board": self.board,
            "soc": soc,
            "abi": known["ro.product.cpu.abi"],
            "android": f"{known['ro.build.version.release']} (API {known['ro.build.version.sdk']})",
            "clusters": "; ".join(map(str, self.clusters)),
            "battery": self.battery,
            "thermal_status": self.heat.words,
            "screen": self.screen,
        }
        return {key: value for key, value in said.items() if value}

    def mask(self, which: str) -> str:
        """The cores of a kind as ``taskset`` takes them: hexadecimal, without a prefix.

        Raises:
            EdgesegError: The name is none, or all cores are alike.
        """
        if which not in ("big", "little"):
            raise unknown("kind of cores", which, ("big", "little"))
        if len(self.clusters) < 2:
            raise EdgesegError(f"all cores of {self.board} are alike, as far as it tells", "leave --cores out")
        cluster = self.clusters[-1 if which == "big" else 0]
        return f"{sum(1 << core for core in cluster.cores):x}"


def probe(shell: Shell, folder: str) -> AndroidPhone:
    """Ask a phone what it is, make the folder and sweep what a killed run left in it.

    Raises:
        DeviceUnreachable: It does not answer, or has no shell.
        EdgesegError: It is none that the bundle runs on, or the folder cannot be used.
    """
    try:
        done = shell.run(_SCRIPT, [folder, *_PROPERTIES], timeout_s=60)
    except process.Timeout as error:
        raise DeviceUnreachable(f"{shell.address} took a command and did not end it: {error.message}") from error
    pairs = [line.partition("\t")[::2] for line in done.stdout.splitlines() if "\t" in line]
    told = dict(pairs)
    if "end" not in told:
        raise DeviceUnreachable(
            f"{shell.address} answers, but runs no shell commands: {done.last_words}", "adb shell getprop has to work"
        )
    abi, sdk = told["ro.product.cpu.abi"], told["ro.build.version.sdk"]
    if abi != ABI:
        raise EdgesegError(
            f"{shell.address} is {abi or 'no Android'}; what is pushed runs on {ABI} only",
            "edgeseg bench --device browser measures in the browser of any phone",
        )
    if sdk.isdigit() and int(sdk) < OLDEST_SDK:
        raise EdgesegError(
            f"{shell.address} runs Android {told['ro.build.version.release']}; 7 or newer is needed",
            "edgeseg bench --device browser measures in the browser of any phone",
        )
    _check_folder(shell, folder, told)
    return AndroidPhone(
        properties=told,
        clusters=clusters([value for key, value in pairs if key == "core"]),
        battery=battery(told["battery"]),
        heat=thermal.parse(told["thermal"]),
        screen=_screen(told["wakefulness"]),
    )


def clusters(lines: Sequence[str]) -> tuple[Cluster, ...]:
    """Cores of equal highest clock, the slowest first.

    Args:
        lines: A core's number and its highest clock in kHz.
    """
    found: dict[int, list[int]] = {}
    for line in lines:
        number, _, clock = line.partition(" ")
        if number.isdigit():
            found.setdefault(int(clock) if clock.isdigit() else 0, []).append(int(number))
    return tuple(Cluster(tuple(sorted(cores)), clock) for clock, cores in sorted(found.items()))


def battery(text: str) -> str:
    """``dumpsys battery`` as a sentence: its temperature comes in tenths of a degree."""
    names = "level|temperature|AC powered|USB powered|Wireless powered"
    known = dict(re.findall(rf"(?:^|;)\s*({names}): ([^;\s]+)", text.replace("\n", ";")))
    said = []
    if known.get("level", "").isdigit():
        said.append(f"{known['level']} %")
    if known.get("temperature", "").lstrip("-").isdigit():
        said.append(f"{int(known['temperature']) / 10:.1f} °C")
    powered = [name.split()[0] for name, value in known.items() if name.endswith("powered") and value == "true"]
    if known:
        said.append(f"on {' and '.join(powered)} power" if powered else "on battery")
    return ", ".join(said)


def _screen(text: str) -> str:
    state = text.rpartition("=")[2].strip()
    return "" if not state else "on" if state in ("Awake", "Dreaming") else "off"


def _check_folder(shell: Shell, folder: str, told: Mapping[str, str]) -> None:
    if "unwritable" in told:
        raise EdgesegError(
            f"{shell.address}: nothing can be written to {folder}: {told['unwritable']}",
            f"look at it with: adb shell 'df {TEMPORARY}; ls -ld {TEMPORARY}'; edgeseg device clean android makes room",
        )
    if "unrunnable" in told:
        raise EdgesegError(
            f"{shell.address}: programs cannot be run from {folder}: {told['unrunnable']}",
            "edgeseg bench --device browser measures in its browser, where nothing has to be run from a folder",
        )
