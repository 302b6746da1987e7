"""The choice of a quantisation: scales, and the layers that stay in float, judged by the mask on a few pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import EdgesegError
from edgeseg.core.spec import ModelSpec
from edgeseg.data.preprocess import resize_nearest, scores
from edgeseg.flows.calibration import Material
from edgeseg.flows.parity import Gate
from edgeseg.metrics.confusion import confusion, mean_iou
from edgeseg.quantization import placement, ranges, selection
from edgeseg.quantization.placement import Placement
from edgeseg.quantization.ranges import Watched
from edgeseg.quantization.recipe import QuantizationRecipe, Range, Ranked
from edgeseg.quantization.scales import Scale
from edgeseg.quantization.simulation import Simulation, session_of

if TYPE_CHECKING:
    import onnx

TRIAL_IMAGES = 6
"""Pictures on which the ranges are chosen; a few hundred thousand pixels."""


@dataclass(frozen=True)
class Choice:
    """Scales and placement, as they are written for every runtime."""

    placement: Placement
    scales: dict[str, Scale]
    seen: dict[str, Watched]
    recipe: QuantizationRecipe


def choose(
    model: onnx.ModelProto,
    spec: ModelSpec,
    material: Material,
    gate: Gate,
    *,
    method: str = "",
    rank: bool = False,
    say: Callable[[str], None],
) -> Choice:
    """Watch the float network, choose ranges, and look for layers that have to stay in float if the mask needs it.

    Args:
        model: fp32, cleaned, of opset 13 or newer.
        spec: Its spec.
        material: The calibration inputs.
        gate: What the masks have to reach.
        method: A range method for all tensors; empty to choose by the mask.
        rank: Measure every part's effect, also when nothing has to be mended.
        say: Told what is being done.
    """
    everything = placement.place(model)
    say(f"watching the float network on {material.count} pictures")
    seen = ranges.watch(everything, ({spec.input_name: tensor} for _, tensor, _ in material.stream()), material.count)
    simulation = Simulation(everything, seen)
    trial = [material.read(index) for index in material.spread(TRIAL_IMAGES)]
    feeds = [{spec.input_name: tensor} for _, tensor, _ in trial]
    plain = session_of(model)
    expected = [_labels(plain.run([spec.output_name], dict(feed))[0], spec) for feed in feeds]
    flips = _flipped(expected, spec)
    say("choosing ranges by the mask")
    only = next((one for one in ranges.METHODS if one == method), None)
    chosen = selection.choose_ranges(everything, seen, simulation, feeds, flips, only=only)
    drop = _dropped([mask for _, _, mask in trial], expected, spec)
    now = drop([simulation.run(feed, chosen.scales, frozenset()) for feed in feeds])
    missed = now > gate.max_miou_drop or chosen.error > 1 - gate.min_agreement
    effects: tuple[selection.Effect, ...] = ()
    floating: frozenset[str] = frozenset()
    if missed or rank:
        say("measuring what every part of the network does to the mask")
        effects = selection.rank(everything, simulation, chosen.scales, feeds, flips)
    if missed:
        say("looking for the layers that have to stay in float")
        # Both gates in one number: the share of what is allowed.
        allowed_flips, allowed_drop = max(1 - gate.min_agreement, 1e-9), max(gate.max_miou_drop, 1e-9)

        def worse(outputs: Sequence[Array]) -> float:
            return max(flips(outputs) / allowed_flips, drop(outputs) / allowed_drop)

        # The trial pictures are few: three quarters of what is allowed leaves room for the others.
        parts, _ = selection.keep_in_float(simulation, chosen.scales, feeds, worse, effects, 0.75)
        floating = selection.layers_of(everything, parts)
    written = QuantizationRecipe(
        model=spec.name,
        ranges=tuple(
            Range(name, scale.step, scale.zero, chosen.methods[name]) for name, scale in chosen.scales.items()
        ),
        floating=tuple(sorted(floating)),
        ranking=tuple(
            Ranked(effect.part, effect.error, effect.macs / max(everything.macs, 1), effect.layers)
            for effect in effects
        ),
        means={
            layer.name: tuple(round(float(mean), 7) for mean in seen[layer.source].means) for layer in everything.layers
        },
        error=chosen.error,
    )
    return replay(model, written)  # from what is written, so that a replay makes the same file


def replay(model: onnx.ModelProto, given: QuantizationRecipe) -> Choice:
    """A recipe on a graph. It has a range for everything, so layers may be put into and taken out of `floating`."""
    everything = placement.place(model)
    scales = {one.tensor: Scale(one.step, one.zero) for one in given.ranges}
    missing = [group.name for group in everything.groups if group.name not in scales]
    if missing:
        raise EdgesegError(
            f"the recipe has no range for the tensor {missing[0]!r}",
            "it is of another network, or of another input size",
        )
    placed = placement.place(model, floating=given.floating) if given.floating else everything
    found = selection.carried(scales, everything, placed)
    seen = {
        layer.source: Watched(0.0, 0.0, np.empty(0), np.array(given.means[layer.name]))
        for layer in placed.layers
        if layer.name in given.means
    }
    return Choice(placed, found, seen, given)


def _labels(output: Array, spec: ModelSpec) -> Array:
    """The class of every pixel at the network's own resolution."""
    if spec.output_kind == "labels":
        return np.squeeze(output)
    planes = scores(output, spec)
    return planes[0] > 0 if len(planes) == 1 else planes.argmax(axis=0)


def _flipped(expected: Sequence[Array], spec: ModelSpec) -> selection.Judge:
    """Share of pixels with another class than in float."""

    def judge(outputs: Sequence[Array]) -> float:
        pairs = zip(outputs, expected, strict=True)
        return float(np.mean([np.mean(_labels(output, spec) != label) for output, label in pairs]))

    return judge


def _dropped(truths: Sequence[Array | None], expected: Sequence[Array], spec: ModelSpec) -> selection.Judge:
    """mIoU lost against float; nothing where there is no ground truth, because then the flipped pixels say it all."""
    if any(truth is None for truth in truths):
        return lambda outputs: 0.0
    classes = max(2, spec.output_channels, len(spec.classes))
    size = expected[0].shape
    reals = [resize_nearest(truth, *size) for truth in truths if truth is not None]

    def miou(labels: Sequence[Array]) -> float:
        matrix = np.zeros((classes, classes), np.int64)
        for real, label in zip(reals, labels, strict=True):
            matrix += confusion(real, label.astype(np.uint8), classes)
        return mean_iou(matrix)

    best = miou(expected)

    def judge(outputs: Sequence[Array]) -> float:
        return max(0.0, best - miou([_labels(output, spec) for output in outputs]))

    return judge
