"""What the device says of itself: processor, clock, temperature, throttling, load. None where it says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Optional

from edgeseg import __version__
from edgeseg.core import thermal, throttling
from edgeseg.core.measurement import Conditions, Hello
from edgeseg.core.thermal import Thermal

_CPU = Path("/sys/devices/system/cpu")
# The first is also there where /proc cannot be arranged, and is where the second points to.
_TREES = (Path("/sys/firmware/devicetree/base"), Path("/proc/device-tree"))
_FIRMWARE = (
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
    "/sys/devices/platform/soc*/*firmware*/get_throttled",
)
DUMPSYS = Path("/system/bin/dumpsys")
"""Android's program that asks its services."""
STAND_IN = Path("/etc/edgeseg-standin")
"""A file that says: this is an emulator, its time means nothing."""
_CORES = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xC07: "Cortex-A7", 0xB76: "ARM1176",
}  # fmt: skip
"""``CPU part`` of Arm's own cores."""


def hello() -> Hello:
    """The device, its software and how it is now."""
    import numpy as np

    device = {
        "cpu": cpu_model(),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }
    memory = memory_bytes()
    device.update({key: value for key, value in (("board", board()), ("soc", soc()), ("core", core())) if value})
    if memory:
        device["memory_bytes"] = str(memory)
    software = {"python": platform.python_version(), "numpy": np.__version__, "edgeseg": __version__}
    governor = _text(_CPU / "cpu0/cpufreq/scaling_governor") or None
    return Hello(device, software, governor, now(), emulated=STAND_IN.exists())


def now() -> Conditions:
    """The state of the device at this moment."""
    flags = throttle_flags()
    return Conditions(
        load=_load(),
        frequency_mhz=frequency_mhz(),
        temperature_c=temperature_c(),
        throttled=throttled(flags),
        throttle_flags=flags,
    )


class Watch:
    """What else the machine did between the making of this object and the call of `conditions`."""

    def __init__(self) -> None:
        self._begin = _ticks()
        self._own = time.process_time()
        self._preempted = _preemptions()
        self._started = time.perf_counter()

    def conditions(self) -> Conditions:
        """The state now, with background load and preemptions since the beginning."""
        elapsed = time.perf_counter() - self._started
        own = time.process_time() - self._own
        end = _ticks()
        background = None
        # The kernel counts in hundredths of a second: shorter slices cannot be told apart from their own rounding.
        if self._begin is not None and end is not None and elapsed > 0.05:
            busy = (end - self._begin) / os.sysconf("SC_CLK_TCK")
            background = min(1.0, max(0.0, (busy - own) / (elapsed * cores_of_machine())))
        preempted = _preemptions()
        return replace(
            now(),
            background=background,
            preemptions=None if preempted is None or self._preempted is None else preempted - self._preempted,
        )


def version_of(package: str) -> str:
    """``onnxruntime 1.20.0``, or the name alone where the version is not known."""
    from importlib import metadata

    for name in (package, package.replace("_", "-")):
        try:
            return f"{package} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return package


def cpu_model() -> str:
    """The processor's name as people know it."""
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware", "cpu model") and value.strip():
            return value.strip()
    return core() or platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_machine() -> int:
    """Cores that the machine has, allowed or not."""
    return os.cpu_count() or 1


def memory_bytes() -> Optional[int]:
    """All memory of the machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def peak_bytes() -> Optional[int]:
    """Peak resident memory of this process."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def frequency_mhz() -> Optional[float]:
    """Clock of the fastest core, where the kernel tells."""
    found = [_number(_CPU / f"cpu{index}/cpufreq/scaling_cur_freq") for index in range(cores_of_machine())]
    known = [value for value in found if value is not None]
    return max(known) / 1000 if known else None


def temperature_c() -> Optional[float]:
    """The hottest sensor of the processor."""
    found = []
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        kind = _text(zone / "type").lower()
        value = _number(zone / "temp")
        if value is not None and any(word in kind for word in ("cpu", "x86_pkg", "soc", "core")):
            found.append(value / 1000)
    return max(found) if found else android_heat().cpu_c


_throttle_start: dict[str, float] = {}


def throttled(flags: Optional[int]) -> Optional[bool]:
    """Whether the clock is held down now (Raspberry Pi, Android), or was since the worker started (x86 counts the events)."""
    if flags is not None:
        return throttling.slowed(flags)
    status = android_heat().status
    if status is not None:
        return status > 0
    count = _number(_CPU / "cpu0/thermal_throttle/package_throttle_count")
    if count is None:
        return None
    return count > _throttle_start.setdefault("count", count)


_ASK_EVERY_S = 1.0
"""Starting a program takes the processor for some milliseconds: it is done between slices, never within one."""
_asked: list[tuple[float, Optional[int]]] = []
_heat: list[tuple[float, Thermal]] = []


def throttle_flags() -> Optional[int]:
    """The bits of ``get_throttled``: from the kernel where it has them, else from vcgencmd, at most once a second."""
    for pattern in _FIRMWARE:
        for path in sorted(Path("/").glob(pattern[1:])):
            found = throttling.parse(_text(path))
            if found is not None:
                return found
    if _asked and (_asked[-1][1] is None or time.monotonic() - _asked[-1][0] < _ASK_EVERY_S):
        return _asked[-1][1]
    _asked[:] = [(time.monotonic(), _vcgencmd())]
    return _asked[-1][1]


def android_heat() -> Thermal:
    """What Android's thermal service says, asked at most once a second; nothing where there is no Android."""
    if not DUMPSYS.exists():
        return Thermal(None, None)
    if not _heat or time.monotonic() - _heat[-1][0] >= _ASK_EVERY_S:
        _heat[:] = [(time.monotonic(), thermal.parse(_output([str(DUMPSYS), "thermalservice"])))]
    return _heat[-1][1]


def _vcgencmd() -> Optional[int]:
    return throttling.parse(_output(["vcgencmd", "get_throttled"]))


def _output(command: list[str]) -> str:
    """What a program prints; empty where it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def board() -> str:
    """The board's name from the device tree, e.g. ``Raspberry Pi 5 Model B Rev 1.0``; empty where there is none."""
    return next((text for text in (_text(tree / "model").rstrip("\0") for tree in _TREES) if text), "")


def soc() -> str:
    """The chip from the device tree, e.g. ``bcm2712``: the last of what the board calls itself compatible with."""
    for tree in _TREES:
        names = [name for name in _text(tree / "compatible").split("\0") if "," in name]
        if names:
            return names[-1].partition(",")[2]
    return ""


def core() -> str:
    """Name of an Arm core, e.g. ``Cortex-A76``; of several kinds the one that is named last, which is the big one."""
    found = ""
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "CPU part":
            try:
                found = _CORES.get(int(value, 16), value.strip())
            except ValueError:
                continue
    return found


def _load() -> Optional[float]:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _preemptions() -> Optional[int]:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _ticks() -> Optional[float]:
    """Clock ticks that all cores have spent working, for whomever (``/proc/stat``: all but idle and iowait)."""
    fields: tuple[str, ...] = tuple(_text(Path("/proc/stat")).partition("\n")[0].split()[1:9])
    if len(fields) < 8:
        return None
    values = [float(field) for field in fields]
    return sum(values) - values[3] - values[4]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> Optional[float]:
    try:
        return float(_text(path))
    except ValueError:
        return None
