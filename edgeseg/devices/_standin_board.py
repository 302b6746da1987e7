"""What a stand-in shows of itself: ``/proc/cpuinfo`` and a ``/sys`` like those of a Raspberry Pi, or of a phone.

Without them the runtimes look into the host's, find x86 where they expect Arm, and crash (pytorch/cpuinfo in ONNX
Runtime and LiteRT, hwloc in OpenVINO). With them, everything that edgeseg asks a board can be tried.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CORES = 4


@dataclass(frozen=True)
class Model:
    """A Raspberry Pi, as its kernel describes it."""

    board: str
    compatible: tuple[str, ...]
    part: int
    variant: int
    revision: int
    features: str
    max_khz: int

    @property
    def midr(self) -> int:
        """The core's identification register: implementer Arm, architecture 15, variant, part and revision."""
        return 0x41 << 24 | self.variant << 20 | 0xF << 16 | self.part << 4 | self.revision


_PLAIN = "fp asimd evtstrm crc32 cpuid"
DOT = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
"""`asimddp` are the dot products for which runtimes have other int8 kernels."""
MODELS: dict[str, Model] = {
    "a53": Model(
        "Raspberry Pi 3 Model B Plus Rev 1.3", ("raspberrypi,3-model-b-plus", "brcm,bcm2837"),
        0xD03, 0, 4, _PLAIN, 1_400_000,
    ),
    "a72": Model(
        "Raspberry Pi 4 Model B Rev 1.4", ("raspberrypi,4-model-b", "brcm,bcm2711"),
        0xD08, 0, 3, _PLAIN, 1_800_000,
    ),
    "a76": Model(
        "Raspberry Pi 5 Model B Rev 1.0", ("raspberrypi,5-model-b", "brcm,bcm2712"),
        0xD0B, 4, 1, DOT, 2_400_000,
    ),
}  # fmt: skip
"""By core type."""

THROTTLED = "devices/platform/soc/soc:firmware/get_throttled"
TEMPERATURE = "class/thermal/thermal_zone0/temp"
GOVERNOR = "devices/system/cpu/cpu{}/cpufreq/scaling_governor"


def write(place: Path, cores: Sequence[Model]) -> None:
    """Write ``cpuinfo`` and ``sys/`` into a folder; what was in it is removed.

    Args:
        place: The folder.
        cores: What each core is; equal ones are a cluster.
    """
    shutil.rmtree(place, ignore_errors=True)
    files = {"cpuinfo": _cpuinfo(cores)}
    files.update({f"sys/{name}": content for name, content in _sys(cores).items()})
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (place / "sys/kernel").mkdir()


def _cpuinfo(cores: Sequence[Model]) -> str:
    listed = "".join(
        f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {model.features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: {model.variant:#x}\nCPU part\t: {model.part:#x}\n"
        f"CPU revision\t: {model.revision}\n\n"
        for number, model in enumerate(cores)
    )
    return f"{listed}Revision\t: 000000\nSerial\t\t: 0000000000000000\nModel\t\t: {cores[-1].board}\n"


def _sys(cores: Sequence[Model]) -> dict[str, str]:
    everyone, cpu = range(len(cores)), "devices/system/cpu"
    files = {f"{cpu}/{name}": _listed(everyone) for name in ("possible", "present", "online")}
    files[f"{cpu}/kernel_max"] = "255"
    for number in everyone:
        files.update({f"{cpu}/cpu{number}/{name}": text for name, text in _core(cores, number).items()})
    files["devices/system/node/online"] = files["devices/system/node/possible"] = "0"
    files["devices/system/node/node0/cpumap"] = _bits(everyone)
    files["devices/system/node/node0/cpulist"] = _listed(everyone)
    files["class/thermal/thermal_zone0/type"] = "cpu-thermal"
    files = {name: f"{text}\n" for name, text in files.items()}
    files[TEMPERATURE] = "51121\n"
    if any(name.startswith("raspberrypi,") for name in cores[-1].compatible):
        files[THROTTLED] = "0\n"
    files["firmware/devicetree/base/model"] = f"{cores[-1].board}\0"
    files["firmware/devicetree/base/compatible"] = "".join(f"{name}\0" for name in cores[-1].compatible)
    return files


def _core(cores: Sequence[Model], number: int) -> dict[str, str]:
    model = cores[number]
    cluster = [other for other, one in enumerate(cores) if one == model]
    everyone, own = range(len(cores)), [number]
    files = {"online": "1", "regs/identification/midr_el1": f"{model.midr:#018x}"}
    for name, group in (("core_siblings", everyone), ("package_cpus", everyone), ("cluster_cpus", cluster),
                        ("thread_siblings", own), ("core_cpus", own)):  # fmt: skip
        files[f"topology/{name}"], files[f"topology/{name}_list"] = _bits(group), _listed(group)
    files["topology/core_id"] = str(number)
    files["topology/physical_package_id"] = "0"
    caches = (("1", "Data", "32K", own), ("1", "Instruction", "48K", own), ("2", "Unified", "1024K", cluster))
    for index, (level, kind, size, group) in enumerate(caches):
        cache = {
            "level": level, "type": kind, "size": size, "shared_cpu_list": _listed(group),
            "shared_cpu_map": _bits(group), "coherency_line_size": "64", "number_of_sets": "256",
            "ways_of_associativity": "2",
        }  # fmt: skip
        files.update({f"cache/index{index}/{name}": text for name, text in cache.items()})
    clock = {
        "cpuinfo_max_freq": str(model.max_khz), "cpuinfo_min_freq": "600000", "scaling_cur_freq": str(model.max_khz),
        "scaling_governor": "ondemand",
        "scaling_available_governors": "conservative ondemand userspace powersave performance schedutil",
    }  # fmt: skip
    files.update({f"cpufreq/{name}": text for name, text in clock.items()})
    return files


def _bits(numbers: Sequence[int]) -> str:
    return f"{sum(1 << number for number in numbers):x}"


def _listed(numbers: Sequence[int]) -> str:
    """Consecutive numbers as the kernel lists them: ``0-3``."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
