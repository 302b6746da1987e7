"""Compare rewritten exports with the plain one, interleaved: `python tests/benchmarks/bench_rewrites.py`.

For each backend the plain graph (cleaned, no rewrites) and the rewritten ones are converted, loaded side by side on one
thread, and run in rounds whose order changes, so that a machine that slows down hits all alike. A ratio below 1 is
faster than plain; its interval is a bootstrap over rounds. `--each` measures every rewrite alone, `--sets` given ones.
With `--precision int8` both are quantised with ranges from the same random pictures: what they do to a mask is measured
elsewhere, and latencies do not hang on it. With `--fp32` the plain fp32 artifact is the one that all are compared with.
Not collected by pytest: figures of a shared machine prove nothing to a test.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg import backends
from edgeseg.assets import bundled
from edgeseg.core.spec import ModelSpec
from edgeseg.flows import retarget
from edgeseg.flows.choice import Choice
from edgeseg.flows.model import ModelRequest, read_model
from edgeseg.flows.quantize import BLOCK, SPELLINGS, _at_opset
from edgeseg.graph import rewriting, simplify
from edgeseg.graph.rewriting import Target
from edgeseg.quantization import placement, ranges
from edgeseg.quantization.recipe import QuantizationRecipe
from tests.benchmarks.interleaved import CLOCKS, measure, ratio
from tests.unit.graph.rewrites.networks import mobilenet, overlapping, unet

FP32 = "plain fp32"


def networks(checkpoint: Path | None) -> dict[str, tuple[Any, ModelSpec]]:
    """Name to a cleaned graph and its spec."""
    read = read_model(ModelRequest(checkpoint or bundled()))
    found = {read.spec.name: (_at_opset(simplify.simplify(read.model)[0]), read.spec)}
    for build in (unet, overlapping, mobilenet):
        model, output = build(224, 384)
        found[build.__name__] = (model, ModelSpec(build.__name__, 384, 224, "image", output))
    return found


def chosen(model: Any, spec: ModelSpec) -> Choice:
    """A graph quantised with the smallest and largest values of two random pictures."""
    placed = placement.place(model)
    random = np.random.default_rng(0)
    feeds = [{spec.input_name: random.normal(size=spec.input_shape).astype(np.float32)} for _ in range(2)]
    seen = ranges.watch(placed, feeds, len(feeds))
    scales = {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}
    return Choice(placed, scales, seen, QuantizationRecipe(spec.name, ()))


def integer_variants(backend: str, model: Any, spec: ModelSpec, sets: list[tuple[str, ...] | None]) -> dict[str, Any]:
    """As `variants`, in INT8: one choice of scales before, each runtime's own rewrites behind it."""
    shared, own = Target(rewriting.ANY, "int8"), Target(backend, "int8", BLOCK)
    found = {"plain": retarget.retarget(chosen(model, spec), spec, own, SPELLINGS[backend], ()).model}
    for names in sets:
        before, behind = rewriting.halves(names, shared, own)
        rewritten = rewriting.rewrite(model, spec, shared, before)
        written = retarget.retarget(chosen(rewritten.model, spec), spec, own, SPELLINGS[backend], behind)
        if rewritten.applied or written.applied:
            found["default: " * (names is None) + ", ".join((*rewritten.applied, *written.applied))] = written.model
    return found


def variants(backend: str, model: Any, spec: ModelSpec, sets: list[tuple[str, ...] | None]) -> dict[str, Any]:
    """Name to graph: plain, then every set that changes something."""
    target = Target(backend, "fp32", rewriting.block_of_this_cpu())
    found = {"plain": model}
    for chosen in sets:
        rewritten = rewriting.rewrite(model, spec, target, chosen)
        if rewritten.applied:
            found["default: " * (chosen is None) + ", ".join(rewritten.applied)] = rewritten.model
    return found


def compare(backend_name: str, graphs: dict[str, Any], spec: ModelSpec, given: argparse.Namespace) -> None:
    """Print a line for each graph."""
    backend = backends.load(backend_name)
    with tempfile.TemporaryDirectory() as folder:
        sessions, specs = [], []
        for index, (name, model) in enumerate(graphs.items()):
            out = Path(folder) / str(index)
            out.mkdir()
            done = backend.convert(model, spec, "fp32" if name == FP32 else given.precision, out)
            specs.append(done.spec)
            sessions.append(backend.load(out / done.files[0], done.spec, threads=1, options=done.runtime_options))
        taken = measure(sessions, specs[0], given.rounds, given.repeats, given.clock)
        for session in sessions:
            session.close()
    for name, row in zip(graphs, taken, strict=True):
        print(f"{backend_name:9} {np.median(row) / 1e6:8.2f} ms  {ratio(row, taken[0])}  {name}", flush=True)


def main() -> None:
    """Print one line for each network, backend and set of rewrites."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    parser.add_argument("--backends", default=",".join(name for name in backends.names() if name != "null"))
    parser.add_argument("--network", action="append", help="only this one (repeatable)")
    parser.add_argument("--each", action="store_true", help="also every rewrite alone")
    parser.add_argument("--sets", nargs="*", default=[], help="also these: a,b")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32")
    parser.add_argument("--fp32", action="store_true", help="also the plain fp32 artifact, as 1")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    given = parser.parse_args()
    sets: list[tuple[str, ...] | None] = [None, *(tuple(text.split(",")) for text in given.sets)]
    if given.each:
        sets += [(name,) for name in rewriting.names()]
    for name, (model, spec) in networks(given.checkpoint).items():
        if given.network and name not in given.network:
            continue
        for backend in given.backends.split(","):
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            print(f"{name}, {spec.width}x{spec.height}, {given.precision}, one thread, {given.clock} time, load {load}")
            made = integer_variants if given.precision == "int8" else variants
            graphs = made(backend, model, spec, sets)
            compare(backend, {FP32: model, **graphs} if given.fp32 else graphs, spec, given)


if __name__ == "__main__":
    main()
