"""INT8 beside fp32 and the standard quantisers, interleaved: `python tests/benchmarks/bench_int8.py --calib DATA`.

For each backend: the plain fp32 artifact (no rewrites; OpenVINO pinned to f32) as 1, our INT8 as `edgeseg quantize`
makes it, and what a user would get without edgeseg from the same calibration pictures: ONNX Runtime's `quantize_static`
with its defaults, NNCF's defaults in OpenVINO (where it is installed), the plain graph lowered from `quantize_static`
for TFLite. `--float PATTERN` adds our INT8 with other layers left in float, `--float ""` with none. Not collected by
pytest: figures of a shared machine prove nothing to a test.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg import backends
from edgeseg.assets import bundled
from edgeseg.core.backend import Session
from edgeseg.core.spec import ModelSpec
from edgeseg.flows import calibration
from edgeseg.flows.model import ModelRequest, read_model
from edgeseg.flows.quantize import QuantizeRequest, _at_opset, quantize
from edgeseg.graph import simplify
from edgeseg.quantization import alternatives, recipe
from tests.benchmarks.interleaved import CLOCKS, measure, ratio


@dataclass(frozen=True)
class Entry:
    """One loaded network and the share of its multiplications that run in integers."""

    label: str
    session: Session
    spec: ModelSpec
    share: float


def ours(request: QuantizeRequest, label: str) -> dict[str, Entry]:
    """Backend to our INT8, as the command makes it."""
    found = {}
    for item in quantize(request).quantized:
        assert item.artifact is not None, item.error
        written = item.artifact.manifest
        session = backends.load(item.target).load(
            item.artifact.model_file, written.spec, threads=1, options=written.runtime_options
        )
        assert written.quantization is not None
        found[item.target] = Entry(label, session, written.spec, written.quantization.integer_mac_share or 0.0)
    return found


def converted(name: str, label: str, model: Any, spec: ModelSpec, precision: str, out: Path) -> Entry:
    """A model as the backend converts it, no more."""
    backend = backends.load(name)
    out.mkdir()
    done = backend.convert(model, spec, precision, out)
    file = out / done.files[0]
    session = backend.load(file, done.spec, threads=1, options=done.runtime_options)
    share = backend.executed(file, done.spec, done.runtime_options).integer_share if precision == "int8" else 0.0
    return Entry(label, session, done.spec, share)


def others(name: str, model: Any, spec: ModelSpec, material: calibration.Material, folder: Path) -> list[Entry]:
    """Plain fp32, and the standard quantisers on the plain graph."""

    def feeds() -> Any:
        return ({spec.input_name: tensor} for _, tensor, _ in material.stream())

    static = alternatives.ort_static(_at_opset(model), feeds(), signed=name == "tflite")
    found = [
        converted(name, "plain fp32", model, spec, "fp32", folder / f"{name}.fp32"),
        converted(name, "int8: quantize_static", static, spec, "int8", folder / f"{name}.static"),
    ]
    if name == "openvino" and importlib.util.find_spec("nncf") is not None:
        quantised = alternatives.nncf_static(model, feeds(), material.count)
        found.append(converted(name, "int8: nncf", quantised, spec, "int8", folder / f"{name}.nncf"))
    return found


def compare(name: str, entries: list[Entry], given: argparse.Namespace) -> None:
    """Print a line for each variant; the first is 1."""
    spec = entries[0].spec
    taken = measure([entry.session for entry in entries], spec, given.rounds, given.repeats, given.clock)
    for entry, row in zip(entries, taken, strict=True):
        entry.session.close()
        figures = f"{np.median(row) / 1e6:8.2f} ms  {ratio(row, taken[0])}"
        print(f"{name:9} {figures}  {entry.share:6.1%} int8  {entry.label}", flush=True)


def main() -> None:
    """Print one line for each backend and variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    parser.add_argument("--input-size", default="", help="WxH")
    parser.add_argument("--calib", default="sample:64")
    parser.add_argument("--backends", default="onnx,openvino,tflite")
    parser.add_argument("--float", action="append", default=[], help="also with these in float: PATTERN,… (repeatable)")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    given = parser.parse_args()
    size = tuple(int(part) for part in given.input_size.split("x")) if given.input_size else None
    asked = ModelRequest(given.checkpoint or bundled(), size=size)
    read = read_model(asked)
    model, spec = simplify.simplify(read.model)[0], read.spec
    names = tuple(given.backends.split(","))
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        request = QuantizeRequest(asked, names, calibration=given.calib, out=folder / "ours")
        made = [ours(request, "int8: edgeseg")]
        chosen = recipe.read(next(folder.glob("ours/*/*-int8/recipe.json")))
        for number, text in enumerate(given.float):
            floating = [one for part in text.split(",") for one in fnmatch.filter(sorted(chosen.means), part)]
            file = folder / f"{number}.json"
            recipe.write(file, replace(chosen, floating=tuple(sorted(set(floating)))))
            again = replace(request, recipe=file, data=given.calib, out=folder / str(number))
            made.append(ours(again, f"int8: edgeseg, {text or 'nothing'} in float"))
        material = calibration.gather(given.calib, spec, say=lambda line: print(line, file=sys.stderr))
        for name in names:
            plain, *standard = others(name, model, spec, material, folder)
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            print(f"{spec.name}, {spec.width}x{spec.height}, one thread, {given.clock} time, load {load}")
            compare(name, [plain, *(one[name] for one in made), *standard], given)


if __name__ == "__main__":
    main()
