"""A roofline for each operator: it takes as long as its multiplications or its bytes, whichever is longer.

Williams, Waterman, Patterson: "Roofline: an insightful visual performance model for multicore architectures", 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.backend import Work
from edgeseg.forecast.boards import Board

BYTES = {"f32": 4, "f16": 2, "i8": 1}
OVERHEAD_S = 5e-6
"""To begin an operator: an order of magnitude, which matters for small operators only."""
ELEMENT_CYCLES = 1.0
"""Cycles a number that operators without multiplications write; assumed: their kernels are partly scalar."""


@dataclass(frozen=True)
class Efficiency:
    """What kernels make of a processor.

    Four numbers are a fit, by ``tests/benchmarks/bench_forecast.py``, to 26 public figures: MobileNet v1 and v2 on Pi 3 B+, Pi 4 and
    Pi Zero 2 W, with 1 and 4 threads, fp32 and int8, by XNNPACK and ncnn. Those cannot tell depthwise kernels from memory that is slow,
    and have no transposed ones: what these are worth was measured on an x86 processor, as the share of a 1x1 convolution's rate
    that they reach in ONNX Runtime, LiteRT and OpenVINO, by ``tests/benchmarks/kernel_efficiency.py``. There are no public figures of a Pi 5,
    whose cores count as those of a Pi 4.

    Attributes:
        in_order: Share of the peak that convolutions reach on cores that wait for their loads; a fit.
        out_of_order: The same on other cores; a fit.
        parallel: What each thread after the first adds; a fit.
        traffic: Bytes that are moved for each byte that has to be, where tensors do not fit into the cache; a fit.
        depthwise: What is left of `in_order` or `out_of_order` for depthwise convolutions; measured.
        transposed: The same for transposed ones; measured.
    """

    in_order: float = 0.429
    out_of_order: float = 0.545
    parallel: float = 0.739
    traffic: float = 2.721
    depthwise: float = 0.3
    transposed: float = 0.5


FITTED = Efficiency()


@dataclass(frozen=True)
class Cost:
    """What one kind of kernel takes of a run.

    Attributes:
        kernel: One of `edgeseg.core.backend.KERNELS`.
        executes: The precision that it is computed in: ``f32``, ``f16`` or ``i8``.
        operators: How many there are.
        macs: Multiply-accumulates.
        bytes: That are read and written.
        seconds: Of a run.
        memory_seconds: Those of them for which memory is the limit.
    """

    kernel: str
    executes: str
    operators: int
    macs: int
    bytes: int
    seconds: float
    memory_seconds: float


def costs(
    work: Sequence[Work], board: Board, threads: int, float_precision: str, integer_precision: str,
    efficiency: Efficiency = FITTED,
) -> list[Cost]:  # fmt: skip
    """What a run takes, by kernel and precision; the largest first.

    Args:
        work: The operators.
        board: Where.
        threads: How many; no more than the board's cores count.
        float_precision: What the runtime computes float layers in there.
        integer_precision: What it computes 8-bit layers in there.
        efficiency: Of the kernels.
    """
    found: dict[tuple[str, str], Cost] = {}
    parallel = 1 + (min(threads, board.cores) - 1) * efficiency.parallel
    large = sum(one.weights for one in work) * BYTES[float_precision] > board.cache_bytes
    for one in work:
        executes = board.executes(integer_precision if one.integer else float_precision)
        size = BYTES[executes]
        moved = size * (one.reads + one.writes)
        # A line that is written is read first; weights that stay in the cache from run to run cost nothing.
        traffic = efficiency.traffic * size * (one.reads + 2 * one.writes) if moved > board.cache_bytes else 0.0
        traffic += size * one.weights if large else 0.0
        memory = traffic / board.memory_bytes_s
        compute = _cycles(one, board, executes, efficiency) / (board.ghz * 1e9 * parallel)
        seconds = max(compute, memory) + OVERHEAD_S
        key = (one.kernel, executes)
        before = found.get(key, Cost(*key, 0, 0, 0, 0.0, 0.0))
        found[key] = Cost(
            *key,
            before.operators + 1,
            before.macs + one.macs,
            before.bytes + moved + size * one.weights,
            before.seconds + seconds,
            before.memory_seconds + (seconds if memory > compute else 0.0),
        )
    return sorted(found.values(), key=lambda cost: -cost.seconds)


def _cycles(one: Work, board: Board, executes: str, efficiency: Efficiency) -> float:
    """Cycles of one core."""
    if not one.macs:
        return ELEMENT_CYCLES * one.writes
    share = efficiency.in_order if board.in_order else efficiency.out_of_order
    share *= {"depthwise": efficiency.depthwise, "transposed": efficiency.transposed}.get(one.kernel, 1.0)
    return one.macs / (board.macs_per_cycle[executes] * share)
