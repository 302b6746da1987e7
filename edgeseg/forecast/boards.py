"""What the processors of Raspberry Pi 3, 4 and 5 can give at most, with the source of each figure.

Sources:

- [spec] Product pages and datasheets of the boards: clock, cores, sizes of the caches.
- [a72] Arm Cortex-A72 Software Optimization Guide (UAN 0016A), floating-point and ASIMD pipelines; measured 15.9 GFLOPS at
  2.0 GHz, 8 operations a cycle, on an MT8173 (wlog.flatlib.jp, 2015-10-30); two pipes of 64 bit (chipsandcheese.com,
  2023-11-10).
- [a53] One NEON unit that starts one 128-bit multiply-accumulate a cycle, in order; a 128-bit load takes its issue slot for
  two cycles (the comments of XNNPACK's and ncnn's A53 kernels).
- [a76] Arm Cortex-A76 Software Optimization Guide (PJDOC-466751330-7215, version 8): two 128-bit pipes; FMLA, FMLA of half
  precision and SDOT start on both in each cycle.
- [memcpy] sbc-bench (github.com/ThomasKaiser/sbc-bench, Results.md): memcpy 1.12 to 1.23 GB/s on a Pi 3 B+, 2.2 to 2.8 GB/s on a
  Pi 4; a copied byte is read and written.
- [stream] STREAM on a Pi 4: 5.5 GB/s copy, 4.9 GB/s add (sci-pi.org.uk/bench/stream.html).
- [wire] No source was found for a measured bandwidth of a Pi 5: 60 % of LPDDR4X-4267 over 32 bit, the share of the wire that
  the Pi 4 reaches in [stream] being 43 %, and that of other LPDDR4 boards in TI's SPRACV1B 67 to 74 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PRECISIONS = ("f32", "f16", "i8")
"""What a processor can multiply in."""


@dataclass(frozen=True)
class Board:
    """One board.

    Attributes:
        name: As the board calls itself, the part that all of its kind have in common.
        key: Short name.
        core: Type of its cores.
        in_order: Whether a core waits for what it loads.
        cores: How many.
        ghz: Clock of the cores.
        macs_per_cycle: Multiply-accumulates that one core can start in a cycle, by precision; a precision that is
            missing is computed in f32.
        cache_bytes: The last cache that a core does not share with devices: what is larger comes from memory.
        memory_bytes_s: What memory gives, to all cores together.
        socs: Names in the device tree.
    """

    name: str
    key: str
    core: str
    in_order: bool
    cores: int
    ghz: float
    macs_per_cycle: Mapping[str, float]
    cache_bytes: int
    memory_bytes_s: float
    socs: tuple[str, ...]

    def executes(self, precision: str) -> str:
        """The precision that is multiplied in where one is asked for."""
        return precision if precision in self.macs_per_cycle else "f32"


_MULL = 16 / 3
"""8-bit multiply-accumulates a cycle without dot products: SMULL and SMLAL of 8 each, then SADALP, one a cycle ([a53])."""

BOARDS: tuple[Board, ...] = (
    Board(
        "Raspberry Pi 3", "pi3", "Cortex-A53", True, 4, 1.4,  # [spec] of the 3 B+; a 3 B has 1.2 GHz
        {"f32": 4, "i8": _MULL},  # [a53]
        512 << 10,  # [spec] L2
        2.3e9,  # [memcpy]
        ("bcm2837",),
    ),
    Board(
        "Raspberry Pi 4", "pi4", "Cortex-A72", False, 4, 1.8,  # [spec]; before 2021, and revision 1.1: 1.5 GHz
        {"f32": 4, "i8": 8},  # [a72]: both pipes take part of the three instructions
        1 << 20,  # [spec] L2
        5.0e9,  # [memcpy], [stream]
        ("bcm2711",),
    ),
    Board(
        "Raspberry Pi 5", "pi5", "Cortex-A76", False, 4, 2.4,  # [spec]
        {"f32": 8, "f16": 16, "i8": 32},  # [a76]
        2 << 20,  # [spec] L3; each core has 512 KiB of L2 besides
        10e9,  # [wire]
        ("bcm2712",),
    ),
)  # fmt: skip


def recognise(device: Mapping[str, str]) -> Board | None:
    """The board that a device is, by what its worker says of it (`edgeseg.core.measurement.Hello`); None for another one."""
    said, soc = device.get("board", ""), device.get("soc", "")
    module = said.startswith("Raspberry Pi Compute Module")  # a Zero 2 W has a Pi 3's chip too, but another clock
    for board in BOARDS:
        if said.startswith(board.name) or (module and soc in board.socs):
            return board
    return None
