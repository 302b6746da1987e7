"""Record what the rewrites are worth, as results: `python tests/benchmarks/record_rewrites.py --checkpoint FILE`.

The plain network and the rewritten one are exported (or, with `--precision int8`, quantised from the same pictures), each
runtime's two artifacts are measured by `edgeseg bench` in one interleaved session below `bench/results/`, and the table for
the README is printed. Meant for a quiet machine; on a busy one `bench_rewrites.py --clock cpu` is the better measure.
Not collected by pytest: figures of a shared machine prove nothing to a test.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from edgeseg.assets import bundled
from edgeseg.cli import _flags
from edgeseg.flows.bench.session import RESULTS, BenchRequest, bench
from edgeseg.flows.export import ExportRequest, export
from edgeseg.flows.model import ModelRequest
from edgeseg.flows.quantize import QuantizeRequest, quantize

TARGETS = ("onnx", "openvino", "tflite")
NAMES = {"plain": (), "rewritten": None}


def make(given: argparse.Namespace, exports: Path) -> None:
    """Both networks for all runtimes."""
    for name, rewrites in NAMES.items():
        model = ModelRequest(given.checkpoint or bundled(), size=given.input_size, name=name)
        if given.precision == "int8":
            quantize(
                QuantizeRequest(
                    model, TARGETS, calibration=given.calib, data="sample:4", ranges="minmax", out=exports,
                    rewrites=rewrites,
                    max_float=0.0,  # else plain and rewritten might keep different layers in float
                ),
                say=print,
            )  # fmt: skip
        else:
            export(ExportRequest(model, TARGETS, given.precision, out=exports, rewrites=rewrites), say=print)


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    parser.add_argument("--input-size", type=_flags.size, metavar="WxH")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32")
    parser.add_argument("--calib", default="sample:16", help="calibration pictures (default: 16 synthetic portraits)")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for each runtime (default: 60)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    lines = ["| runtime | plain, ms | rewritten, ms | ratio (95 %) | |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory(prefix="edgeseg-rewrites-") as folder:
        exports = Path(folder)
        make(given, exports)
        for target in TARGETS:
            done = bench(
                BenchRequest(
                    artifacts=tuple(exports / name / f"{target}-{given.precision}" for name in NAMES),
                    data="none",
                    budget_s=given.budget,
                    baseline=f"plain/{target}-{given.precision}",
                    out=given.out,
                    command=f"record_rewrites.py --precision {given.precision} --budget {given.budget:g}",
                )
            )
            rows = {row.variant.artifact.partition("/")[0]: row for row in done.summary.rows}
            plain, rewritten = rows["plain"], rows["rewritten"]
            if plain.latency is None or rewritten.latency is None or rewritten.ratio is None:
                lines.append(f"| {target} | not measured: {rewritten.failure or plain.failure} | | | |")
                continue
            ratio = rewritten.ratio
            labels = ", ".join(sorted({label.name for row in (plain, rewritten) for label in row.labels}))
            lines.append(
                f"| {target} | {plain.latency.median_ns / 1e6:.2f} | {rewritten.latency.median_ns / 1e6:.2f} | "
                f"**{ratio.value:.3f}** ({ratio.low:.3f} to {ratio.high:.3f}) | {rewritten.verdict} {labels} |"
            )
            print(f"{target}: {done.path}", flush=True)
    print(f"\nPrecision {given.precision}, one thread\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
