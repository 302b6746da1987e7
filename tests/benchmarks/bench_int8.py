"""INT8 beside fp32 and the standard quantisers, interleaved: `python tests/benchmarks/bench_int8.py --calib DATA`.

For each backend: the plain fp32 artifact (no rewrites; OpenVINO pinned to f32) as 1, our INT8 as `edgeseg quantize`
makes it, and what a user would get without edgeseg from the same calibration pictures: ONNX Runtime's `quantize_static`
with its defaults, NNCF's defaults in OpenVINO (where it is installed), the plain graph lowered from `quantize_static`
for TFLite. `--float PATTERN` adds our INT8 with layers left in float. Not collected by pytest.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg import backends
from edgeseg.assets import bundled
from edgeseg.core.spec import ModelSpec
from edgeseg.flows import calibration
from edgeseg.flows import choice as choosing
from edgeseg.flows.model import ModelRequest, read_model
from edgeseg.flows.parity import INT8_GATE
from edgeseg.flows.quantize import SPELLINGS, _at_opset
from edgeseg.graph import rewriting, simplify
from edgeseg.graph.rewriting import Target
from edgeseg.quantization import alternatives, qdq
from tests.benchmarks.interleaved import CLOCKS, measure, ratio

Variants = dict[str, tuple[str, Any]]
"""Name to precision and model."""


def ours(model: Any, spec: ModelSpec, material: calibration.Material, patterns: list[str]) -> dict[str, Any]:
    """Name to choice: the default one, and one for each pattern of layers left in float."""
    target = Target(rewriting.ANY, "int8")
    rewritten = rewriting.rewrite(_at_opset(model), spec, target, None).model
    chosen = choosing.choose(rewritten, spec, material, INT8_GATE, say=lambda line: None)
    found = {"edgeseg": chosen}
    for pattern in patterns:
        names = [layer.name for layer in chosen.placement.layers]
        floating = {name for part in pattern.split(",") for name in fnmatch.filter(names, part)}
        found[f"edgeseg, {pattern} in float"] = choosing.replay(
            rewritten, replace(chosen.recipe, floating=tuple(sorted(floating)))
        )
    return found


def variants(backend: str, model: Any, spec: ModelSpec, choices: dict[str, Any], material: Any) -> Variants:
    """Everything that is compared in one backend."""

    def feeds() -> Any:
        return ({spec.input_name: tensor} for _, tensor, _ in material.stream())

    found: Variants = {"plain fp32": ("fp32", model)}
    for name, choice in choices.items():
        written = qdq.write(choice.placement, choice.scales, choice.seen, SPELLINGS[backend])
        found[f"int8: {name}"] = ("int8", written)
    signed = backend == "tflite"
    found["int8: quantize_static"] = ("int8", alternatives.ort_static(_at_opset(model), feeds(), signed=signed))
    if backend == "openvino" and importlib.util.find_spec("nncf") is not None:
        found["int8: nncf"] = ("int8", alternatives.nncf_static(model, feeds(), material.count))
    return found


def compare(name: str, found: Variants, spec: ModelSpec, given: argparse.Namespace) -> None:
    """Print a line for each variant."""
    backend = backends.load(name)
    with tempfile.TemporaryDirectory() as folder:
        sessions, specs, shares = [], [], []
        for index, (precision, model) in enumerate(found.values()):
            out = Path(folder) / str(index)
            out.mkdir()
            done = backend.convert(model, spec, precision, out)
            file = out / done.files[0]
            specs.append(done.spec)
            sessions.append(backend.load(file, done.spec, threads=1, options=done.runtime_options))
            executed = backend.executed(file, done.spec, done.runtime_options)
            shares.append(executed.integer_share if precision == "int8" else 0.0)
        taken = measure(sessions, specs[0], given.rounds, given.repeats, given.clock)
        for session in sessions:
            session.close()
    for label, row, share in zip(found, taken, shares, strict=True):
        print(
            f"{name:9} {np.median(row) / 1e6:8.2f} ms  {ratio(row, taken[0])}  {share:6.1%} int8  {label}", flush=True
        )


def main() -> None:
    """Print one line for each backend and variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    parser.add_argument("--input-size", default="", help="WxH")
    parser.add_argument("--calib", default="sample:64")
    parser.add_argument("--backends", default="onnx,openvino,tflite")
    parser.add_argument(
        "--float", action="append", default=[], help="also with these layers in float: PATTERN,… (repeatable)"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    given = parser.parse_args()
    size = tuple(int(part) for part in given.input_size.split("x")) if given.input_size else None
    read = read_model(ModelRequest(given.checkpoint or bundled(), size=size))
    model, spec = simplify.simplify(read.model)[0], read.spec
    material = calibration.gather(given.calib, spec, say=lambda line: print(line, file=sys.stderr))
    choices = ours(model, spec, material, given.float)
    for backend in given.backends.split(","):
        found = variants(backend, model, spec, choices, material)
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"{spec.name}, {spec.width}x{spec.height}, one thread, {given.clock} time, load {load}")
        compare(backend, found, spec, given)


if __name__ == "__main__":
    main()
