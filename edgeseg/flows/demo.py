"""All of edgeseg on the network that it carries: export to every installed runtime, quantise, verify, bench, report."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeseg import backends
from edgeseg.assets import bundled
from edgeseg.core.errors import MissingDependency
from edgeseg.flows.bench.session import BenchRequest, BenchResult, bench
from edgeseg.flows.export import ExportRequest, ExportResult, export
from edgeseg.flows.model import ModelRequest
from edgeseg.flows.quantize import QuantizeRequest, QuantizeResult, quantize
from edgeseg.flows.report import ReportRequest, report
from edgeseg.flows.verify import VerifyRequest, VerifyResult, verify

PRECISIONS = ("fp32", "fp16")
IMAGES = 24
CALIBRATION_IMAGES = 32
"""As few as the calibration contract takes without a warning."""
BENCH_S = 20.0
"""Budget of the timed rounds: enough for a first look, `edgeseg bench` takes 60 by itself."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        exports: One a precision.
        quantized: The INT8 artifacts.
        verified: All artifacts together against the reference.
        benched: All artifacts on this CPU.
        page: The report; None where the plotting library is not installed.
        missing: Backends whose runtime is not installed.
    """

    exports: tuple[ExportResult, ...]
    quantized: QuantizeResult
    verified: VerifyResult
    benched: BenchResult
    page: Path | None
    missing: tuple[str, ...]


def demo(
    out: Path,
    *,
    command: str = "edgeseg demo",
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DemoResult:
    """Run it.

    Args:
        out: Where artifacts and the gallery go.
        command: The command line, for the manifests.
        say: Told what is being done.
        progress: Told how many pictures of how many are verified.
    """
    ready = [name for name in backends.names() if importlib.util.find_spec(backends.load(name).package) is not None]
    exports = []
    for precision in PRECISIONS:
        targets = tuple(name for name in ready if precision in backends.load(name).precisions)
        request = ExportRequest(ModelRequest(bundled()), targets=targets, precision=precision, out=out, command=command)
        exports.append(export(request, say=say))
    quantized = quantize(
        QuantizeRequest(
            ModelRequest(bundled()),
            targets=tuple(name for name in ready if "int8" in backends.load(name).precisions),
            calibration=f"sample:{CALIBRATION_IMAGES}",
            data=f"sample:{IMAGES}",
            out=out,
            command=command,
        ),
        say=say,
    )
    made = [item.artifact for result in exports for item in result.exported]
    made += [item.artifact for item in quantized.quantized]
    folders = tuple(artifact.folder for artifact in made if artifact is not None)
    say("comparing masks")
    verified = verify(
        VerifyRequest(folders, data=f"sample:{IMAGES}", gallery=out / "masks.html"), say=say, progress=progress
    )
    say("measuring IoU against latency")
    benched = bench(
        BenchRequest(
            artifacts=folders,
            data=f"sample:{IMAGES}",
            budget_s=BENCH_S,
            out=out / "results",
            exports=out,
            command=command,
        )
    )
    page: Path | None = out / "report.html"
    try:
        report(ReportRequest((out / "results",), page))
    except MissingDependency:
        page = None
    missing = tuple(name for name in backends.names() if name not in ready)
    return DemoResult(tuple(exports), quantized, verified, benched, page, missing)
