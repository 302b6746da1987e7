"""What the stand-in shows of itself: ``/proc/cpuinfo`` and a ``/sys`` like those of a Raspberry Pi.

Without them the runtimes look into the host's, find x86 where they expect Arm, and crash (pytorch/cpuinfo in ONNX
Runtime and LiteRT, hwloc in OpenVINO). With them, everything that edgeseg asks a board can be tried.
"""

from __future__ import annotations

import shutil
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
        0xD0B, 4, 1, "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        2_400_000,
    ),
}  # fmt: skip
"""By core type; `asimddp` are the dot products for which runtimes have other int8 kernels."""

THROTTLED = "devices/platform/soc/soc:firmware/get_throttled"
TEMPERATURE = "class/thermal/thermal_zone0/temp"
GOVERNOR = "devices/system/cpu/cpu{}/cpufreq/scaling_governor"


def write(place: Path, model: Model) -> None:
    """Write ``cpuinfo`` and ``sys/`` into a folder; what was in it is removed."""
    shutil.rmtree(place, ignore_errors=True)
    files = {"cpuinfo": _cpuinfo(model)}
    files.update({f"sys/{name}": content for name, content in _sys(model).items()})
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (place / "sys/kernel").mkdir()


def _cpuinfo(model: Model) -> str:
    core = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {model.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: {model.variant:#x}\nCPU part\t: {model.part:#x}\nCPU revision\t: {model.revision}\n"
    )
    cores = "".join(f"processor\t: {number}\n{core}\n" for number in range(CORES))
    return f"{cores}Revision\t: 000000\nSerial\t\t: 0000000000000000\nModel\t\t: {model.board}\n"


def _sys(model: Model) -> dict[str, str]:
    everyone, all_bits = f"0-{CORES - 1}", f"{(1 << CORES) - 1:x}"
    cpu = "devices/system/cpu"
    files = {f"{cpu}/{name}": everyone for name in ("possible", "present", "online")}
    files[f"{cpu}/kernel_max"] = "255"
    for number in range(CORES):
        files.update(
            {f"{cpu}/cpu{number}/{name}": text for name, text in _core(model, number, everyone, all_bits).items()}
        )
    files["devices/system/node/online"] = files["devices/system/node/possible"] = "0"
    files["devices/system/node/node0/cpumap"] = all_bits
    files["devices/system/node/node0/cpulist"] = everyone
    files["class/thermal/thermal_zone0/type"] = "cpu-thermal"
    files = {name: f"{text}\n" for name, text in files.items()}
    files[TEMPERATURE] = "51121\n"
    files[THROTTLED] = "0\n"
    files["firmware/devicetree/base/model"] = f"{model.board}\0"
    files["firmware/devicetree/base/compatible"] = "".join(f"{name}\0" for name in model.compatible)
    return files


def _core(model: Model, number: int, everyone: str, all_bits: str) -> dict[str, str]:
    own, own_bit = str(number), f"{1 << number:x}"
    files = {"online": "1", "regs/identification/midr_el1": f"{model.midr:#018x}"}
    files.update(
        {f"topology/{name}": everyone for name in ("core_siblings_list", "package_cpus_list", "cluster_cpus_list")}
    )
    files.update({f"topology/{name}": all_bits for name in ("core_siblings", "package_cpus", "cluster_cpus")})
    files.update({f"topology/{name}": own for name in ("thread_siblings_list", "core_cpus_list", "core_id")})
    files.update({f"topology/{name}": own_bit for name in ("thread_siblings", "core_cpus")})
    files["topology/physical_package_id"] = "0"
    caches = (("1", "Data", "32K", own, own_bit), ("1", "Instruction", "48K", own, own_bit),
              ("2", "Unified", "1024K", everyone, all_bits))  # fmt: skip
    for index, (level, kind, size, cpus, bits) in enumerate(caches):
        cache = {
            "level": level, "type": kind, "size": size, "shared_cpu_list": cpus, "shared_cpu_map": bits,
            "coherency_line_size": "64", "number_of_sets": "256", "ways_of_associativity": "2",
        }  # fmt: skip
        files.update({f"cache/index{index}/{name}": text for name, text in cache.items()})
    clock = {
        "cpuinfo_max_freq": str(model.max_khz), "cpuinfo_min_freq": "600000", "scaling_cur_freq": str(model.max_khz),
        "scaling_governor": "ondemand",
        "scaling_available_governors": "conservative ondemand userspace powersave performance schedutil",
    }  # fmt: skip
    files.update({f"cpufreq/{name}": text for name, text in clock.items()})
    return files
