"""Latencies that others have published, with their sources: what a forecast is fitted to and compared with.

Networks are given as the work that they do; two of them need no file for that.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.backend import Work, convolution
from edgeseg.forecast.boards import BOARDS, Board

XNNPACK = "XNNPACK README, 'Raspberry Pi', 8 Feb 2022, multi-threaded (4 cores; Pi 3+ in 32 bit, Pi 4 as ARM64, then at 1.5 GHz)"
PHONES = "XNNPACK README, 'Mobile phones', 27 March 2020, one thread"
NCNN = "ncnn benchmark/README.md, average of benchncnn with 1 and 4 threads"
PADDLE = "PaddleSeg, PP-HumanSeg: Paddle-Lite, one thread"
SLIM = "PaddleSlim, PP-HumanSeg-Lite before quantising, one thread"


def _other(key: str, core: str, ghz: float, like: Board, memory_bytes_s: float, cache_bytes: int = 2 << 20) -> Board:
    return Board(key, key, core, like.in_order, 4, ghz, like.macs_per_cycle, cache_bytes, memory_bytes_s, ())


PI3, PI4, PI5 = BOARDS
PI4_2019 = _other("pi4", "Cortex-A72", 1.5, PI4, PI4.memory_bytes_s, PI4.cache_bytes)
ZERO2 = _other("zero2", "Cortex-A53", 1.0, PI3, 2.1e9, PI3.cache_bytes)
PIXEL2 = _other("Pixel 2", "Kryo 280 (A73)", 2.35, PI4, 14e9)
PIXEL3A = _other("Pixel 3a", "Kryo 360 (A75)", 2.0, PI4, 14e9)
SDM710 = _other("SDM710", "Kryo 360 (A75)", 2.2, PI4, 14e9)
S855 = _other("Snapdragon 855", "Kryo 485 (A76)", 2.84, PI5, 14e9)
"""Cores are taken for those of Arm's own that they come from; 14 GB/s is what sbc-bench has of their kind (QRB5165)."""


@dataclass(frozen=True)
class Figure:
    """A published latency."""

    source: str
    board: Board
    network: str
    precision: str
    threads: int
    ms: float

    @property
    def name(self) -> str:
        return f"{self.board.key} {self.network} {self.precision}, {self.threads} thread{'s' * (self.threads > 1)}"


FITTED = [
    *(
        Figure(XNNPACK, board, network, precision, 4, ms)
        for board, figures in ((PI3, (114, 79, 46, 30)), (PI4_2019, (77, 46, 24, 17)))
        for (network, precision), ms in zip(
            (("MobileNet v1", "f32"), ("MobileNet v2", "f32"), ("MobileNet v1", "i8"), ("MobileNet v2", "i8")),
            figures, strict=True,
        )
    ),
    *(
        Figure(NCNN, board, network, precision, threads, ms)
        for board, figures in (
            (PI3, (205.65, 158.80, 181.91, 108.66, 111.68, 67.03)),
            (PI4, (124.32, 93.48, 84.82, 61.17, 61.88, 34.37)),
            (ZERO2, (393.94, 274.23, 286.75, 163.19, 147.39, 91.03)),
        )
        for (threads, network, precision), ms in zip(
            [
                (threads, network, precision)
                for threads in (1, 4)
                for network, precision in (("MobileNet v1", "f32"), ("MobileNet v2", "f32"), ("MobileNet v1", "i8"))
            ],
            figures, strict=True,
        )
    ),
]  # fmt: skip
"""Figures of boards that are forecast, or of the same cores."""

UNSEEN = [
    Figure(XNNPACK, PI3, "MobileNet v3 Large", "f32", 4, 67),
    Figure(XNNPACK, PI3, "MobileNet v3 Small", "f32", 4, 22),
    Figure(XNNPACK, PI4_2019, "MobileNet v3 Large", "f32", 4, 40),
    Figure(XNNPACK, PI4_2019, "MobileNet v3 Small", "f32", 4, 15),
    Figure(PHONES, PIXEL2, "MobileNet v1", "f32", 1, 86),
    Figure(PHONES, PIXEL2, "MobileNet v2", "f32", 1, 53),
    Figure(PHONES, PIXEL3A, "MobileNet v1", "f32", 1, 88),
    Figure(PHONES, PIXEL3A, "MobileNet v2", "f32", 1, 55),
    Figure(PADDLE, S855, "ConnectNet 398x224", "f32", 1, 29.68),
    Figure(PADDLE, S855, "ConnectNet 192x192", "f32", 1, 12.3),
    Figure(SLIM, SDM710, "ConnectNet 398x224", "f32", 1, 56.36),
]
"""Figures that the fit does not see: another network on the same boards, other devices, and the network that edgeseg is about. The SDM710's input size is not said where
the figure stands; it is taken for that of the portrait network."""


class _Sketch:
    """A network as a list of work, square and of one input."""

    def __init__(self, size: int) -> None:
        self.work: list[Work] = []
        self.size = size

    def conv(self, given: int, made: int, kernel: int, stride: int, *, depthwise: bool = False) -> None:
        size = -(-self.size // stride)
        weights = kernel * kernel * given * (1 if depthwise else made)
        kind = convolution(given if depthwise else 1, given, (kernel, kernel))
        self.work.append(Work(kind, weights * size * size, weights, given * self.size**2, made * size**2))
        self.size = size

    def matrix(self, given: int, made: int) -> None:
        self.work.append(Work("matrix", given * made, given * made, given, made))

    def over(self, channels: int, reads: int = 1) -> None:
        """An operator over all numbers of a tensor."""
        size = channels * self.size**2
        self.work.append(Work("other", 0, 0, reads * size, size))


def mobilenet_v1() -> list[Work]:
    """Howard et al. 2017, table 1, 224 x 224."""
    net = _Sketch(224)
    net.conv(3, 32, 3, 2)
    given = 32
    for made, stride in [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]:
        net.conv(given, given, 3, stride, depthwise=True)
        net.conv(given, made, 1, 1)
        given = made
    net.matrix(given, 1000)
    return net.work


def mobilenet_v2() -> list[Work]:
    """Sandler et al. 2018, table 2, 224 x 224."""
    net = _Sketch(224)
    net.conv(3, 32, 3, 2)
    given = 32
    for factor, made, count, first in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for index in range(count):
            stride, wide = first if index == 0 else 1, given * factor
            if factor > 1:
                net.conv(given, wide, 1, 1)
            net.conv(wide, wide, 3, stride, depthwise=True)
            net.conv(wide, made, 1, 1)
            if stride == 1 and given == made:
                net.over(made, 2)
            given = made
    net.conv(given, 1280, 1, 1)
    net.matrix(1280, 1000)
    return net.work


# Kernel, expanded and output channels, squeeze-and-excitation, hard swish, stride.
_LARGE = [
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1),
    (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1),
    (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1), (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1),
]  # fmt: skip
_SMALL = [
    (3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2), (5, 240, 40, 1, 1, 1),
    (5, 240, 40, 1, 1, 1), (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1), (5, 288, 96, 1, 1, 2), (5, 576, 96, 1, 1, 1),
    (5, 576, 96, 1, 1, 1),
]  # fmt: skip


def mobilenet_v3(*, large: bool) -> list[Work]:
    """Howard et al. 2019, tables 1 and 2, 224 x 224; hard swish is an operator of its own."""
    net = _Sketch(224)
    net.conv(3, 16, 3, 2)
    net.over(16)
    given = 16
    for kernel, wide, made, squeezed, swish, stride in _LARGE if large else _SMALL:
        if wide != given:
            net.conv(given, wide, 1, 1)
            if swish:
                net.over(wide)
        net.conv(wide, wide, kernel, stride, depthwise=True)
        if swish:
            net.over(wide)
        if squeezed:
            net.work.append(Work("other", 0, 0, wide * net.size**2, wide))
            net.matrix(wide, wide // 4)
            net.matrix(wide // 4, wide)
            net.over(wide)
        net.conv(wide, made, 1, 1)
        if stride == 1 and given == made:
            net.over(made, 2)
        given = made
    last, hidden = (960, 1280) if large else (576, 1024)
    net.conv(given, last, 1, 1)
    net.over(last)
    net.work.append(Work("other", 0, 0, last * net.size**2, last))
    net.matrix(last, hidden)
    net.matrix(hidden, 1000)
    return net.work
