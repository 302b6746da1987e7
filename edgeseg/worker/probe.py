"""What the device says of itself: processor, clock, temperature, throttling, load. None where it says nothing."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Optional

from edgeseg import __version__
from edgeseg.core.measurement import Conditions, Hello

_CPU = Path("/sys/devices/system/cpu")


def hello() -> Hello:
    """The device, its software and how it is now."""
    import numpy as np

    device = {
        "cpu": cpu_model(),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }
    board = _text(Path("/proc/device-tree/model")).rstrip("\0")
    memory = memory_bytes()
    if board:
        device["board"] = board
    if memory:
        device["memory_bytes"] = str(memory)
    software = {"python": platform.python_version(), "numpy": np.__version__, "edgeseg": __version__}
    governor = _text(_CPU / "cpu0/cpufreq/scaling_governor") or None
    return Hello(device=device, software=software, governor=governor, conditions=now())


def now() -> Conditions:
    """The state of the device at this moment."""
    return Conditions(load=_load(), frequency_mhz=frequency_mhz(), temperature_c=temperature_c(), throttled=throttled())


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
        return Conditions(
            load=_load(),
            frequency_mhz=frequency_mhz(),
            temperature_c=temperature_c(),
            throttled=throttled(),
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
    return platform.processor() or platform.machine()


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
    return max(found) if found else None


_throttle_start: dict[str, float] = {}


def throttled() -> Optional[bool]:
    """Whether the clock is held down now (Raspberry Pi), or was since the worker started (x86 counts the events)."""
    flags = _text(Path("/sys/devices/platform/soc/soc:firmware/get_throttled"))
    if flags:
        try:
            return bool(int(flags, 16) & 0b1110)  # frequency capped, throttled, soft temperature limit
        except ValueError:
            return None
    count = _number(_CPU / "cpu0/thermal_throttle/package_throttle_count")
    if count is None:
        return None
    return count > _throttle_start.setdefault("count", count)


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
