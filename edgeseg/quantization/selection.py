"""Choosing by what a choice does to the mask: the range of each scale, and the layers that stay in float.

The error of a tensor says little: a clipped logit of a sure pixel costs nothing, half a step at the border of the mask
costs a pixel. So every choice is judged by how many pixels change their class against the float network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeseg.core.arrays import Array
from edgeseg.quantization.parts import Placement
from edgeseg.quantization.placement import place
from edgeseg.quantization.ranges import METHODS, Method, Watched, candidates
from edgeseg.quantization.scales import Scale
from edgeseg.quantization.simulation import Simulation

Feed = Mapping[str, Array]
Judge = Callable[[Sequence[Array]], float]
"""Outputs of the network for all trial pictures, in order → how bad they are; 0 is as good as float."""

TRIALS = 6
"""How many changes of a single scale are tried."""

_WORTHWHILE = 0.98
"""A change has to take at least 2 % of the error away: less is the noise of a few pictures."""

_NARROW = 1.1
"""Borders of at most 10 % more than the least are as good as it."""

_NEARLY = 1.05
"""The fewest layers with an error of at most 5 % above the least are taken."""


@dataclass(frozen=True)
class Chosen:
    """The scale of each group.

    Attributes:
        scales: Group name to scale.
        methods: Group name to the method that gave it.
        error: What the judge says of all of them together.
        tried: Method to what the judge says of it in all groups.
    """

    scales: dict[str, Scale]
    methods: dict[str, Method]
    error: float
    tried: dict[str, float]


@dataclass(frozen=True)
class Effect:
    """What leaving a part of the network in float would gain.

    Attributes:
        part: The group's name.
        layers: The layers that would be float.
        error: What the judge says then.
        macs: Multiply-accumulates of these layers.
    """

    part: str
    layers: tuple[str, ...]
    error: float
    macs: int


def choose_ranges(
    placement: Placement,
    seen: Mapping[str, Watched],
    simulation: Simulation,
    feeds: Sequence[Feed],
    judge: Judge,
    *,
    only: Method | None = None,
    trials: int = TRIALS,
) -> Chosen:
    """Pick a method for all scales, then change single ones where the mask gains.

    Args:
        placement: What is quantised.
        seen: The watched tensors.
        simulation: Of `placement`.
        feeds: A few pictures.
        judge: Of the outputs for `feeds`.
        only: Take this method everywhere and try no other.
        trials: How many single changes to try, those first that change a scale most.
    """
    found = {group.name: candidates(group, seen) for group in placement.groups}

    def error(scales: Mapping[str, Scale]) -> float:
        return judge([simulation.run(feed, scales, frozenset()) for feed in feeds])

    tried: dict[str, float] = {}
    for method in (only,) if only else METHODS:
        tried[method] = error({name: scales[method] for name, scales in found.items()})
    best = min(tried, key=lambda method: tried[method])
    base: Method = next(method for method in METHODS if method == best)
    scales, methods = {name: one[base] for name, one in found.items()}, dict.fromkeys(found, base)
    least = tried[base]
    if only is None:
        changes = [
            (abs(scale.step / found[name][base].step - 1.0), name, method, scale)
            for name, one in found.items()
            for method, scale in one.items()
            if abs(scale.step / one[base].step - 1.0) > 0.02
        ]
        for _, name, method, scale in sorted(changes, key=lambda change: -change[0])[:trials]:
            now = error({**scales, name: scale})
            if now < least * _WORTHWHILE:
                scales[name], methods[name], least = scale, method, now
    return Chosen(scales, methods, least, tried)


def rank(
    placement: Placement, simulation: Simulation, scales: Mapping[str, Scale], feeds: Sequence[Feed], judge: Judge
) -> tuple[Effect, ...]:
    """Every part of the network by what it would gain in float, most first."""
    effects = []
    for group in placement.groups:
        layers = layers_of(placement, frozenset([group.name]))
        error = judge([simulation.run(feed, scales, frozenset([group.name])) for feed in feeds])
        macs = sum(layer.macs for layer in placement.layers if layer.name in layers)
        effects.append(Effect(group.name, tuple(sorted(layers)), error, macs))
    return tuple(sorted(effects, key=lambda effect: (effect.error, effect.macs)))


@dataclass(frozen=True)
class Found:
    """Where a search for parts that stay in float ended.

    Attributes:
        parts: The parts.
        error: What the judge says with them in float.
        reached: Whether that is good enough.
    """

    parts: frozenset[str]
    error: float
    reached: bool


def keep_in_float(
    judge: Callable[[frozenset[str]], float],
    effects: Sequence[Effect],
    allowed: float,
    *,
    enough: float | None = None,
    cost: Callable[[frozenset[str]], float] = lambda parts: 0.0,
) -> Found:
    """The first few parts of a ranking, until the error is within what is allowed.

    Float layers are paid for in speed, so a part has to earn its place. If all that help are not enough, they would be paid
    for and the goal missed all the same: then the search goes back to where the share of the error that is left and the
    share of the multiplications in float come to least, which may be nothing in float at all.

    Args:
        judge: Parts in float → how bad the masks are then.
        effects: The ranking.
        allowed: Where the search may end.
        enough: What is good enough where no more can be had; `allowed` if left out.
        cost: Parts → share of the multiplications that are float then.

    Returns:
        What was found. A part that makes it no better is skipped.
    """
    floating: frozenset[str] = frozenset()
    error = judge(floating)
    trail = [(floating, error)]
    for effect in effects:
        if error <= allowed:
            break
        more = floating | {effect.part}
        now = judge(more)
        if now < error * _WORTHWHILE:
            floating, error = more, now
            trail.append((floating, error))
    if error <= (allowed if enough is None else enough):
        return Found(floating, error, True)
    plain = max(trail[0][1], 1e-12)
    floating, error = min(trail, key=lambda step: step[1] / plain + cost(step[0]))
    return Found(floating, error, False)


def first_in_float(
    placement: Placement, judge: Callable[[frozenset[str]], float], max_share: float
) -> tuple[frozenset[str], float, float]:
    """How many of the first layers are worth leaving in float.

    Their noise goes through all others, and they have few multiplications and few channels, which is not what integer
    kernels are good at. What costs time is the border: numbers that are made in float and rounded for the integer layers
    (a border right behind the first convolution was measured to eat all that integers gain). So the border is where least
    is rounded, and there the error decides.

    Args:
        placement: What is quantised.
        judge: Layers in float → error of the scores.
        max_share: The largest share of the multiplications that may be float.

    Returns:
        The layers, the error with them in float, and the error with none. No layers unless the share of the error that
        they take away is larger than their share of the multiplications.
    """
    plain = judge(frozenset())
    possible = _prefixes(placement, max_share)
    narrowest = min((border for _, _, border in possible), default=0)
    tried = [(layers, cost, judge(layers)) for layers, cost, border in possible if border <= narrowest * _NARROW]
    good = [(layers, error) for layers, cost, error in tried if error < plain * min(_WORTHWHILE, 1 - cost)]
    if not good:
        return frozenset(), plain, plain
    least = min(error for _, error in good)
    layers, error = next((layers, error) for layers, error in good if error <= least * _NEARLY)
    return layers, error, plain


def _prefixes(placement: Placement, max_share: float) -> list[tuple[frozenset[str], float, int]]:
    """The first layers, from one to all that may be float: their share of the multiplications, and the size of the border.

    The border is the number of elements that are made in float, or come in, and are rounded for integer layers.
    """
    found = []
    first: frozenset[str] = frozenset()
    cost = 0.0
    for layer in sorted(placement.layers, key=lambda layer: layer.node)[:-1]:
        first, cost = first | {layer.name}, cost + layer.macs / max(placement.macs, 1)
        if cost > max_share:
            break
        placed = place(placement.model, floating=first)
        made = {layer.result for layer in placed.layers} | {one.result for one in placed.functions}
        rounded = [name for group in placed.groups for name in group.sources if name not in made]
        found.append((first, cost, sum(math.prod(placed.shapes[name]) for name in rounded)))
    return found


def layers_of(placement: Placement, parts: frozenset[str]) -> frozenset[str]:
    """The layers that read or write one of these groups."""
    group = {tensor: group.name for group in placement.groups for tensor in group.tensors}
    return frozenset(
        layer.name for layer in placement.layers if group[layer.source] in parts or group[layer.result] in parts
    )


def carried(scales: Mapping[str, Scale], before: Placement, after: Placement) -> dict[str, Scale]:
    """Scales for a placement with more layers in float: its groups are parts of the old ones, with their scales."""
    old = before.group_of()
    return {group.name: scales[old[group.tensors[0]].name] for group in after.groups}
