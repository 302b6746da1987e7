"""Ranges of activations: the float network watched on the calibration pictures, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.quantization.parts import Group, Placement
from edgeseg.quantization.scales import LEVELS, Scale, scale_from, scale_of
from edgeseg.quantization.simulation import session_of

Method = Literal["minmax", "p99.99", "p99.9", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "p99.99", "p99.9", "mse")

SAMPLES = 1 << 16
"""Values kept of a tensor over all pictures, for percentiles and the search for the least squared error."""


@dataclass
class Watched:
    """What was seen of one tensor.

    Attributes:
        low: Smallest value over all pictures.
        high: Largest value.
        values: An even sample of all values, at most `SAMPLES` of them.
        means: Mean per channel over pictures and positions; empty unless it is 4-D.
        lows: Smallest value per channel; empty unless it is 4-D.
        highs: Largest value per channel.
        squares: Mean of the squares per channel.
    """

    low: float
    high: float
    values: Array = field(repr=False)
    means: Array = field(repr=False)
    lows: Array = field(repr=False, default_factory=lambda: np.empty(0))
    highs: Array = field(repr=False, default_factory=lambda: np.empty(0))
    squares: Array = field(repr=False, default_factory=lambda: np.empty(0))


def watch(placement: Placement, feeds: Iterable[Mapping[str, Array]], count: int) -> dict[str, Watched]:
    """Run the float network and look at every tensor that needs a range.

    One picture at a time: what is kept does not grow with their number.

    Args:
        placement: What will be quantised.
        feeds: The network's inputs.
        count: How many there are.
    """
    import onnx

    names = [name for group in placement.groups for name in group.sources]
    names += [layer.source for layer in placement.layers]
    names = list(dict.fromkeys(names))
    inputs = {value.name for value in placement.model.graph.input}
    model = onnx.ModelProto()
    model.CopyFrom(placement.model)
    present = {value.name for value in model.graph.output}
    inner = [name for name in names if name not in inputs]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in present)
    session = session_of(model)
    each = max(64, SAMPLES // max(count, 1))
    random = np.random.default_rng(0)
    low: dict[str, float] = dict.fromkeys(names, np.inf)
    high: dict[str, float] = dict.fromkeys(names, -np.inf)
    values: dict[str, list[Array]] = {name: [] for name in names}
    means: dict[str, Array] = {}
    lows: dict[str, Array] = {}
    highs: dict[str, Array] = {}
    squares: dict[str, Array] = {}
    seen = 0
    for feed in feeds:
        found = dict(zip(inner, session.run(inner, dict(feed)), strict=True))
        seen += 1
        for name in names:
            array = np.asarray(found[name] if name in found else feed[name], np.float32)
            low[name] = min(low[name], float(array.min()))
            high[name] = max(high[name], float(array.max()))
            flat = array.reshape(-1)
            stride = max(1, flat.size // each)
            values[name].append(flat[int(random.integers(stride)) :: stride][:each].copy())
            if array.ndim == 4:
                means[name] = means.get(name, 0.0) + array.mean(axis=(0, 2, 3), dtype=np.float64)
                squares[name] = squares.get(name, 0.0) + np.square(array).mean(axis=(0, 2, 3), dtype=np.float64)
                lows[name] = np.minimum(lows.get(name, np.inf), array.min(axis=(0, 2, 3)))
                highs[name] = np.maximum(highs.get(name, -np.inf), array.max(axis=(0, 2, 3)))
    none = np.empty(0)
    return {
        name: Watched(
            low[name], high[name], np.concatenate(values[name]), np.asarray(means.get(name, none)) / max(seen, 1),
            lows.get(name, none), highs.get(name, none),
            np.asarray(squares.get(name, none)) / max(seen, 1),
        )
        for name in names
    }  # fmt: skip


def candidates(group: Group, seen: Mapping[str, Watched]) -> dict[Method, Scale]:
    """A scale for each method; methods that come to the same are left in, so that each can be asked for."""
    if group.fixed is not None:
        return dict.fromkeys(METHODS, group.fixed)
    parts = [seen[name] for name in group.sources]
    low, high = max(group.floor, min(part.low for part in parts)), max(part.high for part in parts)
    make = scale_of if not group.swish else lambda low, high: scale_from(group.floor, high)
    found: dict[Method, Scale] = {"minmax": make(low, high)}
    tails: tuple[tuple[Method, float], ...] = (("p99.99", 1e-4), ("p99.9", 1e-3))
    for method, outside in tails:
        ends = [_percentile(part, outside) for part in parts]
        found[method] = make(max(low, min(end[0] for end in ends)), min(high, max(end[1] for end in ends)))
    found["mse"] = least_squares([np.maximum(part.values, group.floor) for part in parts], low, high, make)
    return found


def _percentile(part: Watched, outside: float) -> tuple[float, float]:
    """The ends that leave `outside` of the values outside, both sides together."""
    below, above = np.quantile(part.values, (outside / 2, 1 - outside / 2))
    return float(below), float(above)


def least_squares(
    values: Sequence[Array], low: float, high: float, make: Callable[[float, float], Scale] = scale_of
) -> Scale:
    """The scale with the least squared error over a sample, found among shrunken versions of the whole range."""
    sample = np.concatenate([part[:: max(1, len(part) // 8192)] for part in values]).astype(np.float32)
    best, least = make(low, high), np.inf
    for share in np.linspace(1.0, 0.3, 29):
        scale = make(low * share, high * share)
        stored = np.clip(np.rint(sample / scale.step) + scale.zero, 0, LEVELS)
        error = float(np.square((stored - scale.zero) * scale.step - sample).mean())
        if error < least:
            best, least = scale, error
    return best
