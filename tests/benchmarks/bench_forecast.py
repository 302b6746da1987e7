"""Fits four of the numbers of `edgeseg.forecast.roofline.Efficiency` to public figures, and says how far off the forecast is.

    python tests/benchmarks/bench_forecast.py [--connectnet FOLDER]

In-sample errors are those of the fit itself. The others are made without what they are measured on: each figure, board,
network, runtime, precision and number of threads left out of the fit in turn, and figures of other devices that no fit sees.
`--connectnet` is a folder that holds artifacts `398x224/onnx-fp32` and `192x192/onnx-fp32` of ConnectNet.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import public_figures as public
from public_figures import Figure

from edgeseg.core.backend import Work
from edgeseg.forecast import roofline
from edgeseg.forecast.roofline import Efficiency

ENDS = {"in_order": (0.2, 1), "out_of_order": (0.2, 1), "parallel": (0.3, 1), "traffic": (1, 8)}
NAMES = list(ENDS)
START = Efficiency(0.5, 0.65, 0.7, 1.5)
GROUPS: dict[str, Callable[[Figure], object]] = {
    "figure": lambda one: (one.source, one.name),
    "board": lambda one: one.board.key,
    "network": lambda one: one.network,
    "runtime": lambda one: one.source,
    "precision": lambda one: one.precision,
    "threads": lambda one: one.threads,
}


def networks(connectnet: Path | None = None) -> dict[str, list[Work]]:
    """The work of each network; ConnectNet's only where its artifacts are."""
    found = {
        "MobileNet v1": public.mobilenet_v1(),
        "MobileNet v2": public.mobilenet_v2(),
        "MobileNet v3 Large": public.mobilenet_v3(large=True),
        "MobileNet v3 Small": public.mobilenet_v3(large=False),
    }
    if connectnet is not None:
        from edgeseg import backends
        from edgeseg.core import manifest

        for size in ("398x224", "192x192"):
            artifact = manifest.read(connectnet / size / "onnx-fp32")
            document = artifact.manifest
            backend = backends.load(document.backend)
            work = backend.work(artifact.model_file, document.spec, document.runtime_options)
            # The published graph as its framework runs it: rewrites are ours.
            found[f"ConnectNet {size}"] = work
    return found


def forecast_ms(one: Figure, work: Sequence[Work], efficiency: Efficiency) -> float:
    """The forecast of a figure; of an int8 figure all layers are in integers."""
    integer = one.precision == "i8"
    own = [replace(part, integer=integer) for part in work]
    return 1e3 * sum(cost.seconds for cost in roofline.costs(own, one.board, one.threads, "f32", "i8", efficiency))


def errors(figures: Sequence[Figure], nets: dict[str, list[Work]], efficiency: Efficiency) -> list[float]:
    """ln(measured / forecast) of each."""
    return [math.log(one.ms / forecast_ms(one, nets[one.network], efficiency)) for one in figures]


def fit(figures: Sequence[Figure], nets: dict[str, list[Work]]) -> Efficiency:
    """The efficiency with the least robust error, by a search along the axes in the logarithm."""

    def loss(point: Efficiency) -> float:
        return sum(2 * (math.sqrt(1 + (error / 0.2) ** 2) - 1) for error in errors(figures, nets, point))

    point, best = START, loss(START)
    steps = dict.fromkeys(NAMES, 0.3)
    while max(steps.values()) > 0.004:
        for name in NAMES:
            for sign in (1, -1):
                low, high = ENDS[name]
                value = min(high, max(low, getattr(point, name) * math.exp(sign * steps[name])))
                other = replace(point, **{name: value})
                found = loss(other)
                if found < best - 1e-9:
                    point, best = other, found
                    steps[name] *= 1.3
                    break
            else:
                steps[name] *= 0.6
    return point


def left_out(nets: dict[str, list[Work]], key: Callable[[Figure], object]) -> list[float]:
    """The errors of all figures, each by a fit without those that have the same key."""
    found: list[float] = []
    for value in dict.fromkeys(map(key, public.FITTED)):
        rest = fit([one for one in public.FITTED if key(one) != value], nets)
        found += errors([one for one in public.FITTED if key(one) == value], nets, rest)
    return found


def spread(errors: Sequence[float]) -> float:
    """Root mean square."""
    return math.sqrt(sum(error**2 for error in errors) / len(errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connectnet", type=Path)
    nets = networks(parser.parse_args().connectnet)
    fitted = fit(public.FITTED, nets)
    print("fitted:", ", ".join(f"{name} {getattr(fitted, name):.3f}" for name in NAMES))
    print("in use:", ", ".join(f"{name} {getattr(roofline.FITTED, name):.3f}" for name in NAMES))
    print("\nmeasured / forecast, in use")
    for title, figures in (("in the fit", public.FITTED), ("not in the fit", public.UNSEEN)):
        known = [one for one in figures if one.network in nets]
        for one, error in zip(known, errors(known, nets, roofline.FITTED), strict=True):
            forecast = forecast_ms(one, nets[one.network], roofline.FITTED)
            source = one.source.partition(",")[0]
            print(
                f"  {title:15} {source:20} {one.name:40} {one.ms:7.1f} ms, forecast {forecast:7.1f}: x{math.exp(error):.2f}"
            )
    inside = errors(public.FITTED, nets, fitted)
    print(f"\nin-sample: spread {spread(inside):.3f}, worst x{math.exp(max(map(abs, inside))):.2f}")
    for name, key in GROUPS.items():
        outside = left_out(nets, key)
        print(f"one {name} left out: spread {spread(outside):.3f}, worst x{math.exp(max(map(abs, outside))):.2f}")


if __name__ == "__main__":
    main()
