"""The choice of a quantisation: scales, and the layers that stay in float, judged by the mask on a few pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import EdgesegError
from edgeseg.core.spec import ModelSpec
from edgeseg.data.preprocess import resize_nearest, scores
from edgeseg.flows.calibration import Material
from edgeseg.flows.parity import Gate
from edgeseg.metrics.confusion import confusion, mean_iou
from edgeseg.metrics.connectivity import connectivity, paired_loss
from edgeseg.quantization import equalisation, placement, ranges, selection
from edgeseg.quantization.parts import Placement
from edgeseg.quantization.ranges import Watched
from edgeseg.quantization.recipe import QuantizationRecipe, Range, Ranked
from edgeseg.quantization.scales import Scale
from edgeseg.quantization.simulation import Simulation, session_of

if TYPE_CHECKING:
    import onnx

TRIAL_IMAGES = 16
"""Pictures on which the ranges are chosen: fewer, and the choice fits them and no others."""

EQUALISING_IMAGES = 32
"""Pictures from which channels of unlike range are known; the ranges themselves are taken from all pictures afterwards."""

JUDGED_IMAGES = 32
"""Pictures on which mIoU and connectivity are judged: one island more or less moves the connectivity of a whole picture."""


MAX_FLOAT = 0.25
"""Share of the multiplications that may stay in float for better masks where the gates would not ask for it. Without VNNI so
many of the first layers cost ONNX Runtime up to a seventh of its time and save OpenVINO and LiteRT some; with VNNI nobody has
measured it."""

_NEAREST = 0.05
"""Share of the pixels that are nearest to a change of class: there the error of the scores moves the mask."""


@dataclass(frozen=True)
class Choice:
    """Scales and placement, as they are written for every runtime; `missed` says what the search could not reach."""

    placement: Placement
    scales: dict[str, Scale]
    seen: dict[str, Watched]
    recipe: QuantizationRecipe
    missed: str = ""


def choose(
    model: onnx.ModelProto,
    spec: ModelSpec,
    material: Material,
    gate: Gate,
    *,
    method: str = "",
    rank: bool = False,
    max_float: float = MAX_FLOAT,
    say: Callable[[str], None],
) -> Choice:
    """Equalise the float network and watch it, choose ranges, and look for layers that the mask needs in float.

    Args:
        model: fp32, cleaned, of opset 13 or newer.
        spec: Its spec.
        material: The calibration inputs.
        gate: What the masks have to reach.
        method: A range method for all tensors; empty to choose by the mask.
        rank: Measure every part's effect, also when nothing has to be mended.
        max_float: Share of the multiplications that may stay in float for better masks, gates reached or not.
        say: Told what is being done.
    """
    say(f"watching the float network on {material.count} pictures")
    everything, multiplied = _equalised(placement.place(model), spec, material)
    seen = ranges.watch(everything, ({spec.input_name: tensor} for _, tensor, _ in material.stream()), material.count)
    simulation = Simulation(everything, seen)
    trial = [material.read(index) for index in material.spread(TRIAL_IMAGES)]
    feeds = [{spec.input_name: tensor} for _, tensor, _ in trial]
    plain = session_of(model)
    expected = [plain.run([spec.output_name], dict(feed))[0] for feed in feeds]
    flips = _flipped([_labels(output, spec) for output in expected], spec)
    wrong = _margins(expected, spec) or flips
    say("choosing ranges by the mask")
    only = next((one for one in ranges.METHODS if one == method), None)
    chosen = selection.choose_ranges(everything, seen, simulation, feeds, wrong, only=only)
    judged = Judged.of([material.read(index) for index in material.spread(JUDGED_IMAGES)], plain, spec, gate)
    floating: frozenset[str] = frozenset()
    if max_float > 0:
        say("looking at the first layers in float")
        half = feeds[::2]  # the error of the scores is smooth: it needs fewer pictures than counted pixels do
        apart = _margins(expected[::2], spec) or _flipped([_labels(output, spec) for output in expected[::2]], spec)
        floating, *_ = selection.first_in_float(
            everything,
            lambda layers: apart([simulation.run(feed, chosen.scales, frozenset(), layers) for feed in half]),
            max_float,
        )
    first = floating
    error = flips([simulation.run(feed, chosen.scales, frozenset(), first) for feed in feeds])
    missed = error > 1 - gate.min_agreement or judged.share(simulation, chosen.scales, frozenset(), first) > 1.0
    effects: tuple[selection.Effect, ...] = ()
    unreached = ""
    if missed or rank:
        say("measuring what every part of the network does to the mask")
        effects = selection.rank(everything, simulation, chosen.scales, feeds, flips)
    if missed:
        say("looking for the layers that have to stay in float")
        allowed_flips = max(1 - gate.min_agreement, 1e-9)

        def worse(floats: frozenset[str]) -> float:
            outputs = [simulation.run(feed, chosen.scales, floats, first) for feed in feeds]
            flipped = flips(outputs) / allowed_flips
            # Twice as many pictures again tell of mIoU and connectivity: asked only when the pixels are good enough.
            return flipped if flipped > 1.0 else max(flipped, judged.share(simulation, chosen.scales, floats, first))

        def cost(floats: frozenset[str]) -> float:
            layers = first | selection.layers_of(everything, floats)
            return sum(layer.macs for layer in everything.layers if layer.name in layers) / max(everything.macs, 1)

        # The pictures are few: three quarters of what is allowed leaves room for the others.
        found = selection.keep_in_float(worse, effects, 0.75, enough=1.0, cost=cost)
        floating = first | selection.layers_of(everything, found.parts)
        if not found.reached:
            changed = flips([simulation.run(feed, chosen.scales, found.parts, first) for feed in feeds])
            unreached = (
                f"no choice of float layers that was tried reaches the gates on the trial pictures: the best trade-off leaves "
                f"{100 * (1 - cost(found.parts)):.1f} % of the multiplications in int8, and {100 * changed:.3f} % of the "
                "pixels change"
            )
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
        error=error,
        factors=multiplied,
    )
    # From what is written, so that a replay makes the same file.
    return replace(replay(model, written), missed=unreached)


def replay(model: onnx.ModelProto, given: QuantizationRecipe) -> Choice:
    """A recipe on a graph. It has a range for everything, so layers may be put into and taken out of `floating`."""
    everything = placement.place(model)
    if given.factors:
        everything = placement.place(equalisation.apply(everything, _arrays(given.factors)))
    scales = {one.tensor: Scale(one.step, one.zero) for one in given.ranges}
    missing = [group.name for group in everything.groups if group.name not in scales]
    if missing:
        raise EdgesegError(
            f"the recipe has no range for the tensor {missing[0]!r}",
            "it is of another network, or of another input size",
        )
    placed = placement.place(everything.model, floating=given.floating) if given.floating else everything
    found = selection.carried(scales, everything, placed)
    seen = {
        layer.source: Watched(0.0, 0.0, np.empty(0), np.array(given.means[layer.name]))
        for layer in placed.layers
        if layer.name in given.means
    }
    return Choice(placed, found, seen, given)


def _equalised(
    everything: Placement, spec: ModelSpec, material: Material
) -> tuple[Placement, dict[str, tuple[float, ...]]]:
    """The placement of the equalised network, and the factors as they are written down."""
    some = material.spread(EQUALISING_IMAGES)
    feeds = ({spec.input_name: material.read(index)[1]} for index in some)
    found = equalisation.factors(everything, ranges.watch(everything, feeds, len(some)))
    written = {name: tuple(round(float(one), 5) for one in values) for name, values in found.items()}
    if not written:
        return everything, written
    return placement.place(equalisation.apply(everything, _arrays(written))), written


def _arrays(given: Mapping[str, Sequence[float]]) -> dict[str, Array]:
    return {name: np.array(values, np.float64) for name, values in given.items()}


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


def _margins(expected: Sequence[Array], spec: ModelSpec) -> selection.Judge | None:
    """Mean error of the margin between the two first classes, where it is smallest; None for networks without scores.

    Flipped pixels are few and come by chance on few pictures; the error of the scores where they could flip is a smooth
    measure of the same thing.
    """
    if spec.output_kind == "labels":
        return None

    def flat(output: Array) -> Array:
        """[C, pixels]; one plane is completed by a second one of zeros, the class that it is compared with."""
        planes = scores(output, spec)
        planes = planes.reshape(len(planes), -1)
        return np.concatenate([np.zeros_like(planes), planes]) if len(planes) == 1 else planes

    wanted: list[tuple[Array, Array, Array]] = []
    for output in expected:
        planes = flat(output)
        first, second = np.argsort(planes, axis=0, kind="stable")[:-3:-1]
        pixels = np.arange(planes.shape[1])
        margin = planes[first, pixels] - planes[second, pixels]
        undecided = np.flatnonzero(margin > 0)  # behind a ReLU, sure pixels may have two scores of exactly 0
        near = undecided[np.argsort(margin[undecided], kind="stable")[: max(1, int(_NEAREST * margin.size))]]
        wanted.append((first[near] * margin.size + near, second[near] * margin.size + near, margin[near]))

    def judge(outputs: Sequence[Array]) -> float:
        errors = []
        for output, (first, second, margin) in zip(outputs, wanted, strict=True):
            planes = flat(output).ravel()
            errors.append(float(np.abs(planes[first] - planes[second] - margin).mean()) if margin.size else 0.0)
        return float(np.mean(errors))

    return judge


@dataclass(frozen=True)
class Judged:
    """Pictures with ground truth on which mIoU and connectivity are compared with those of the float network.

    Attributes:
        feeds: The network's inputs; none where there is no ground truth, because then the flipped pixels say it all.
        truths: [H, W] of each, at the network's own resolution.
        floats: The float network's masks.
        spec: The network's spec.
        gate: What may be lost.
    """

    feeds: tuple[dict[str, Array], ...]
    truths: tuple[Array, ...]
    floats: tuple[Array, ...]
    spec: ModelSpec
    gate: Gate

    @classmethod
    def of(cls, pictures: Sequence[tuple[str, Array, Array | None]], plain: Any, spec: ModelSpec, gate: Gate) -> Judged:
        """With the masks of `plain`, a session of the float network."""
        if any(truth is None for _, _, truth in pictures):
            return cls((), (), (), spec, gate)
        feeds = tuple({spec.input_name: tensor} for _, tensor, _ in pictures)
        floats = tuple(_labels(plain.run([spec.output_name], feed)[0], spec).astype(np.uint8) for feed in feeds)
        truths = [truth for _, _, truth in pictures if truth is not None]
        reals = tuple(resize_nearest(truth, *mask.shape) for truth, mask in zip(truths, floats, strict=True))
        return cls(feeds, reals, floats, spec, gate)

    def share(
        self,
        simulation: Simulation,
        scales: Mapping[str, Scale],
        floating: frozenset[str],
        layers: frozenset[str] = frozenset(),
    ) -> float:
        """The largest share of what may be lost that is lost: of mIoU, or of connectivity as far as it is beyond chance."""
        if not self.feeds:
            return 0.0
        outputs = [simulation.run(feed, scales, floating, layers) for feed in self.feeds]
        masks = [_labels(output, self.spec).astype(np.uint8) for output in outputs]
        drop = self._miou(self.floats) - self._miou(masks)
        share = drop / max(self.gate.max_miou_drop, 1e-9)
        allowed = self.gate.max_connectivity_drop
        if allowed is not None:
            pairs = [
                (before, after)
                for real, said, mask in zip(self.truths, self.floats, masks, strict=True)
                if (before := connectivity(real, said, self._classes)) is not None
                and (after := connectivity(real, mask, self._classes)) is not None
            ]
            lost = paired_loss(pairs)
            share = max(share, lost.low / max(allowed, 1e-9)) if lost is not None else share
        return max(0.0, share)

    @property
    def _classes(self) -> int:
        return max(2, self.spec.output_channels, len(self.spec.classes))

    def _miou(self, masks: Sequence[Array]) -> float:
        matrix = np.zeros((self._classes, self._classes), np.int64)
        for real, mask in zip(self.truths, masks, strict=True):
            matrix += confusion(real, mask, self._classes)
        return mean_iou(matrix)
