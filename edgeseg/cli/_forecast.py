"""The table of ``edgeseg bench --device pi --forecast``, which says in every line that nothing was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeseg.cli import _bench_table, _output
from edgeseg.core.errors import EdgesegError

if TYPE_CHECKING:
    import argparse

    from edgeseg.flows.bench.session import BenchRequest
    from edgeseg.flows.forecast import Forecast, ForecastResult

DEVICE = "pi"


def run(requests: Sequence[BenchRequest], arguments: argparse.Namespace) -> int:
    """Forecast instead of measuring."""
    from edgeseg.flows.forecast import ForecastRequest, forecast

    for request in requests:
        if request.device != DEVICE:
            raise EdgesegError(
                f"forecasts are made for Raspberry Pi 3, 4 and 5, not for {request.device}",
                "edgeseg bench --device pi --forecast",
            )
    if arguments.self_test:
        raise EdgesegError("--forecast measures nothing that --self-test could test", "leave one of the two out")
    first = requests[0]
    asked = ForecastRequest(first.artifacts, first.threads, first.exports, first.out)
    with _bench_table.progress() as progress:
        result = forecast(asked, progress=progress)
    if arguments.json:
        _output.json({"forecasts": result.forecasts, "boards": result.boards, "unused": result.unused})
    else:
        _show(result)
    return 0


def _show(result: ForecastResult) -> None:
    table = _output.Table(
        "", "board", "computes in", "MMACs>", "forecast ms>", "95 % interval>", "most of it", "memory-bound>", "rests on",
        title="Forecast, not measured: the network alone, without pre- and post-processing",
    )  # fmt: skip
    for one in result.forecasts:
        table.row(
            f"~ {one.artifact}@{one.threads}", one.board, one.executes, f"{one.macs / 1e6:.0f}", figure(one.forecast_ms),
            f"{figure(one.forecast_low_ms)} … {figure(one.forecast_high_ms)}", _most(one), f"{100 * one.memory_share:.0f} %",
            _rests_on(one), state="soft",
        )  # fmt: skip
    table.show()
    for board in result.boards:
        peak = ", ".join(f"{value:.3g} {name}" for name, value in board.macs_per_cycle.items())
        _output.note(
            f"forecast for {board.name}: {board.cores} x {board.core} at {board.ghz} GHz, at most {peak} multiply-accumulates "
            f"a cycle and core, {board.cache_bytes / 2**20:g} MiB of cache, {board.memory_bytes_s / 1e9:g} GB/s of memory"
        )
    _output.note(
        "forecast: a roofline for each operator with efficiencies fitted to public figures of MobileNets; without measurements "
        "of the board the interval is their spread left out of the fit (bench/README.md)"
    )
    for one in {(one.board, one.sessions): one for one in result.forecasts if one.calibrated}.values():
        _output.note(
            f"forecast for {one.board}: corrected by {one.measurements} measurements of one, from {', '.join(one.sessions)}"
        )
    for sentence in result.unused:
        _output.note(f"a measurement was not used: {sentence}")


def _rests_on(one: Forecast) -> str:
    if not one.calibrated:
        return "public figures"
    return f"{one.measurements} measurement{'s' * (one.measurements > 1)}, x{one.correction:.2f}"


def _most(one: Forecast) -> str:
    """The kernel that takes most of the time, with its share of it."""
    seconds: dict[str, float] = {}
    for cost in one.costs:
        seconds[cost.kernel] = seconds.get(cost.kernel, 0.0) + cost.seconds
    name = max(seconds, key=lambda kernel: seconds[kernel])
    return f"{name} {100 * seconds[name] / sum(seconds.values()):.0f} %"


def figure(value: float) -> str:
    """Two significant digits: a forecast has no more."""
    digits = max(0, 1 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{round(value, 1 - math.floor(math.log10(value))) if value > 0 else 0:.{digits}f}"
