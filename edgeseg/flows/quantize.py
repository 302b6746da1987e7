"""Checkpoint in, INT8 artifacts out: one calibration for all runtimes, each artifact proven before it gets its name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgeseg import backends
from edgeseg.core.arrays import Array
from edgeseg.core.backend import Backend, Conversion
from edgeseg.core.errors import DataError, EdgesegError, unknown
from edgeseg.core.manifest import Artifact, QuantizationRecord
from edgeseg.data.dataset import Dataset, ahead, open_dataset
from edgeseg.data.preprocess import resize_nearest, scores, to_input
from edgeseg.flows.making import Maker
from edgeseg.flows.model import ModelRequest, ReferenceModel, read_model
from edgeseg.flows.parity import Comparison, Gate
from edgeseg.graph import simplify
from edgeseg.metrics.confusion import confusion, mean_iou
from edgeseg.quantization import alternatives, contract, placement, qdq, ranges, recipe, selection
from edgeseg.quantization.contract import Impression
from edgeseg.quantization.placement import Placement
from edgeseg.quantization.qdq import Spelling
from edgeseg.quantization.ranges import Watched
from edgeseg.quantization.recipe import QuantizationRecipe, Range, Ranked
from edgeseg.quantization.scales import Scale
from edgeseg.quantization.simulation import Simulation, session_of

if TYPE_CHECKING:
    import onnx

METHODS = ("edgeseg", "ort", "nncf", "dynamic")

SPELLINGS = {
    "onnx": Spelling("u8", "pairs"),
    "openvino": Spelling("u8", "integers"),
    "tflite": Spelling("s8", "integers"),
}
"""How each backend likes its Q/DQ graph: the same scales and the same integer weights in all of them."""

TRIAL_IMAGES = 6
"""Pictures on which the ranges are chosen; a few hundred thousand pixels."""

INT8_GATE = Gate(min_agreement=0.99, max_miou_drop=0.003)
"""Less than for fp32: every pixel on the border of a mask hangs on the last bits."""


@dataclass(frozen=True)
class QuantizeRequest:
    """What to quantise.

    Attributes:
        model: The checkpoint and what is said about it.
        targets: Backend names.
        calibration: Pictures as after ``--data``, or ready-made tensors: a `.npy` file or a folder of them.
        calibrate_anyway: Go on although the calibration contract says that it would be a mistake.
        data: Pictures for the gates; empty for those of the calibration.
        mask_values: Coding of their masks; empty to infer it.
        out: The folder of all models' artifacts.
        gate: What an artifact has to reach.
        method: One of `METHODS`.
        ranges: Take this range method for all tensors; empty to choose by the mask.
        rank: Measure what every part of the network does to the mask, also when nothing has to be mended.
        recipe: Replay this file; nothing is calibrated then.
        command: The command line, for the manifests.
    """

    model: ModelRequest
    targets: tuple[str, ...]
    calibration: str = "sample:64"
    calibrate_anyway: bool = False
    data: str = ""
    mask_values: str = ""
    out: Path = Path("exports")
    gate: Gate = INT8_GATE
    method: str = "edgeseg"
    ranges: str = ""
    rank: bool = False
    recipe: Path | None = None
    command: str = ""


@dataclass(frozen=True)
class Quantized:
    """One target's outcome.

    Attributes:
        target: The backend.
        artifact: What was written; None after an error.
        comparison: With the reference; None after an error.
        seconds: Writing, comparing and asking the runtime.
        error: Why there is no artifact.
    """

    target: str
    artifact: Artifact | None
    comparison: Comparison | None
    seconds: float
    error: EdgesegError | None = None


@dataclass(frozen=True)
class QuantizeResult:
    """Everything that one `quantize` made.

    Attributes:
        quantized: One a target.
        findings: What the calibration contract had to say.
        recipe: What was chosen; None for the methods of others.
        calibration_seconds: Until the choice was made.
        assumed: What was assumed about the network.
    """

    quantized: tuple[Quantized, ...]
    findings: tuple[str, ...]
    recipe: QuantizationRecipe | None
    calibration_seconds: float
    assumed: tuple[str, ...]


def quantize(request: QuantizeRequest, *, say: Callable[[str], None] = lambda line: None) -> QuantizeResult:
    """Make one INT8 artifact for each target.

    A target that fails does not stop the others; an artifact that misses its gate is written all the same, with the
    verdict in its manifest.

    Args:
        request: What to quantise.
        say: Told what is being done.

    Raises:
        EdgesegError: The request, the checkpoint or the pictures cannot be used, or every target failed.
        DataError: The calibration contract is broken.
    """
    targets = _checked(request)
    say(f"reading {request.model.checkpoint}")
    reference = read_model(request.model)
    spec = reference.spec
    if spec.states:
        raise EdgesegError("recurrent networks cannot be calibrated on single pictures yet", "export them as fp16")
    dataset = open_dataset(
        request.data or _pictures(request.calibration), mask_values=request.mask_values,
        classes=max(2, spec.output_channels),
    )  # fmt: skip
    started = time.perf_counter()
    model, cleaning = simplify.simplify(reference.model)
    model = _at_opset(model)
    replayed = recipe.read(request.recipe) if request.recipe is not None else None
    material = None if replayed is not None else _calibration(request, reference, say)
    choice: _Choice | None = None
    if request.method == "edgeseg":
        choice = _replay(model, replayed) if replayed is not None else _choose(request, reference, model, material, say)
    seconds = time.perf_counter() - started
    maker = Maker(reference, dataset, request.out / spec.name, request.gate, request.command)
    made = []
    for backend in targets:
        say(f"making {backend.name}-int8")
        begun = time.perf_counter()
        try:
            artifact, comparison = _make(request, maker, backend, model, cleaning, choice, material)
        except EdgesegError as error:
            made.append(Quantized(backend.name, None, None, time.perf_counter() - begun, error))
        else:
            made.append(Quantized(backend.name, artifact, comparison, time.perf_counter() - begun))
    if all(item.error is not None for item in made):
        raise next(item.error for item in made if item.error is not None)
    return QuantizeResult(
        tuple(made), material.findings if material else (), choice.recipe if choice else None, seconds, reference.assumed
    )


def _checked(request: QuantizeRequest) -> list[Backend]:
    if request.method not in METHODS:
        raise unknown("method", request.method, METHODS)
    if request.ranges and request.ranges not in ranges.METHODS:
        raise unknown("range method", request.ranges, ranges.METHODS)
    if request.recipe is not None and request.method != "edgeseg":
        raise EdgesegError("a recipe is of edgeseg's own method", "leave --method or --recipe out")
    chosen = []
    for name in dict.fromkeys(request.targets):
        if name not in backends.names():
            raise unknown("target", name, backends.names())
        backend = backends.load(name)
        if "int8" not in backend.precisions:
            raise EdgesegError(f"there is no int8 for {name}", ", ".join(backend.precisions))
        if (request.method == "nncf" and name != "openvino") or (request.method == "dynamic" and name != "onnx"):
            of = "openvino" if request.method == "nncf" else "onnx"
            raise EdgesegError(f"--method {request.method} is for {of} alone", f"--target {of}")
        chosen.append(backend)
    if not chosen:
        raise EdgesegError("no target is named", f"--target {','.join(backends.names())}")
    return chosen


def _pictures(calibration: str) -> str:
    """The calibration's pictures for the gates, where it has pictures."""
    if _is_tensors(calibration):
        raise EdgesegError("ready-made tensors have no masks to compare", "name pictures for the gates: --data DATA")
    return calibration


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import version_converter

    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= qdq.FIRST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, qdq.FIRST_OPSET)
    except Exception as error:  # whatever the converter stumbles over
        raise EdgesegError(
            f"the network has opset {opset} and cannot be brought to {qdq.FIRST_OPSET}: {error}",
            "export it again with a newer opset",
        ) from error


# Calibration


@dataclass(frozen=True)
class _Material:
    """The calibration inputs, prepared again whenever they are asked for, so that none has to be kept."""

    name: str
    count: int
    read: Callable[[int], tuple[str, Array, Array | None]]
    findings: tuple[str, ...] = ()

    def stream(self) -> Iterator[tuple[str, Array, Array | None]]:
        return ahead(self.read, range(self.count), threads=2)

    def spread(self, count: int) -> list[int]:
        """Some of the pictures, spread over all."""
        count = min(count, self.count)
        return [int(index * self.count / count) for index in range(count)]


def _is_tensors(calibration: str) -> bool:
    path = Path(calibration)
    return path.suffix == ".npy" or (path.is_dir() and any(path.glob("*.npy")))


def _calibration(request: QuantizeRequest, reference: ReferenceModel, say: Callable[[str], None]) -> _Material:
    """The calibration inputs, after the contract has been kept."""
    spec = reference.spec
    elsewhere = _is_tensors(request.calibration)
    if elsewhere:
        material = _tensors(request.calibration)
    else:
        dataset = open_dataset(
            request.calibration, mask_values=request.mask_values, classes=max(2, spec.output_channels)
        )
        material = _from_pictures(request.calibration, dataset, reference)
    say(f"looking at {material.count} calibration pictures")
    seen: list[Impression] = [contract.impression(name, tensor, spec) for name, tensor, _ in material.stream()]
    findings = contract.examine(seen, spec, prepared_elsewhere=elsewhere)
    return replace(material, findings=contract.enforce(findings, anyway=request.calibrate_anyway))


def _from_pictures(name: str, dataset: Dataset, reference: ReferenceModel) -> _Material:
    def read(index: int) -> tuple[str, Array, Array | None]:
        sample = dataset.read(index)
        return sample.name, to_input(sample.image, reference.spec), sample.mask

    return _Material(name, len(dataset), read)


def _tensors(name: str) -> _Material:
    """Ready-made network inputs: one file [N, ...] or [N, 1, ...], or a folder of files with one input each."""
    path = Path(name)
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    try:
        if len(files) == 1:
            array = np.load(files[0], mmap_mode="r", allow_pickle=False)
            if array.ndim == 5 and array.shape[1] == 1:
                array = array[:, 0]
            if array.ndim != 4:
                raise DataError(f"{files[0]} holds an array of {array.ndim} dimensions, expected [N, C, H, W]")

            def one(index: int) -> tuple[str, Array, Array | None]:
                return f"{files[0].name}[{index}]", np.array(array[index : index + 1]), None

            return _Material(name, len(array), one)

        def each(index: int) -> tuple[str, Array, Array | None]:
            content = np.load(files[index], allow_pickle=False)
            return files[index].name, content[None] if content.ndim == 3 else content, None

        return _Material(name, len(files), each)
    except (OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read as .npy: {error}") from error


# The choice


@dataclass(frozen=True)
class _Choice:
    """Scales and placement, as they are written for every runtime."""

    placement: Placement
    scales: dict[str, Scale]
    seen: dict[str, Watched]
    recipe: QuantizationRecipe


def _choose(
    request: QuantizeRequest,
    reference: ReferenceModel,
    model: onnx.ModelProto,
    material: _Material | None,
    say: Callable[[str], None],
) -> _Choice:
    assert material is not None
    spec = reference.spec
    everything = placement.place(model)
    say(f"watching the float network on {material.count} pictures")
    seen = ranges.watch(everything, ({spec.input_name: tensor} for _, tensor, _ in material.stream()), material.count)
    simulation = Simulation(everything, seen)
    trial = [material.read(index) for index in material.spread(TRIAL_IMAGES)]
    feeds = [{spec.input_name: tensor} for _, tensor, _ in trial]
    plain = session_of(model)
    expected = [_labels(plain.run([spec.output_name], dict(feed))[0], reference) for feed in feeds]
    flips = _flipped(expected, reference)
    say("choosing ranges by the mask")
    only = next((method for method in ranges.METHODS if method == request.ranges), None)
    chosen = selection.choose_ranges(everything, seen, simulation, feeds, flips, only=only)
    drop = _dropped([mask for _, _, mask in trial], expected, reference)
    now = drop([simulation.run(feed, chosen.scales, frozenset()) for feed in feeds])
    missed = now > request.gate.max_miou_drop or chosen.error > 1 - request.gate.min_agreement
    effects: tuple[selection.Effect, ...] = ()
    floating: frozenset[str] = frozenset()
    if missed or request.rank:
        say("measuring what every part of the network does to the mask")
        effects = selection.rank(everything, simulation, chosen.scales, feeds, flips)
    if missed:
        say("looking for the layers that have to stay in float")
        # Both gates in one number: the share of what is allowed.
        allowed_flips, allowed_drop = max(1 - request.gate.min_agreement, 1e-9), max(request.gate.max_miou_drop, 1e-9)

        def worse(outputs: Sequence[Array]) -> float:
            return max(flips(outputs) / allowed_flips, drop(outputs) / allowed_drop)

        # The trial pictures are few: three quarters of what is allowed leaves room for the others.
        parts, _ = selection.keep_in_float(simulation, chosen.scales, feeds, worse, effects, 0.75)
        floating = selection.layers_of(everything, parts)
    final, scales = everything, chosen.scales
    if floating:
        final = placement.place(model, floating=floating)
        scales = selection.carried(chosen.scales, everything, final)
    groups = everything.group_of()
    written = QuantizationRecipe(
        model=spec.name,
        ranges=tuple(
            Range(name, scale.step, scale.zero, chosen.methods[groups[name].name]) for name, scale in scales.items()
        ),
        floating=tuple(sorted(floating)),
        ranking=tuple(
            Ranked(effect.part, effect.error, effect.macs / max(everything.macs, 1), effect.layers)
            for effect in effects
        ),
        error=chosen.error,
    )
    return _Choice(final, dict(scales), seen, written)


def _replay(model: onnx.ModelProto, given: QuantizationRecipe) -> _Choice:
    """A recipe on a graph. Its scales are found by tensor, so layers may have been put into or taken out of float."""
    placed = placement.place(model, floating=given.floating)
    scales = {one.tensor: Scale(one.step, one.zero) for one in given.ranges}
    found = {}
    for group in placed.groups:
        name = next((tensor for tensor in group.tensors if tensor in scales), None)
        if name is None:
            raise EdgesegError(
                f"the recipe has no range for the tensor {group.name!r}",
                "make it again with the layers that it should quantise, or add the range",
            )
        found[group.name] = scales[name]
    return _Choice(placed, found, {}, given)


def _labels(output: Array, reference: ReferenceModel) -> Array:
    """The class of every pixel at the network's own resolution."""
    if reference.spec.output_kind == "labels":
        return np.squeeze(output)
    planes = scores(output, reference.spec)
    return planes[0] > 0 if len(planes) == 1 else planes.argmax(axis=0)


def _flipped(expected: Sequence[Array], reference: ReferenceModel) -> selection.Judge:
    """Share of pixels with another class than in float."""

    def judge(outputs: Sequence[Array]) -> float:
        pairs = zip(outputs, expected, strict=True)
        return float(np.mean([np.mean(_labels(output, reference) != label) for output, label in pairs]))

    return judge


def _dropped(truths: Sequence[Array | None], expected: Sequence[Array], reference: ReferenceModel) -> selection.Judge:
    """mIoU lost against float; against the float masks themselves where there is no ground truth."""
    classes = max(2, reference.spec.output_channels, len(reference.spec.classes))
    size = expected[0].shape
    reals = [
        resize_nearest(truth, *size) if truth is not None else label.astype(np.uint8)
        for truth, label in zip(truths, expected, strict=True)
    ]

    def miou(labels: Sequence[Array]) -> float:
        return mean_iou(
            sum(confusion(real, label.astype(np.uint8), classes) for real, label in zip(reals, labels, strict=True))
        )

    best = miou(expected)

    def judge(outputs: Sequence[Array]) -> float:
        return max(0.0, best - miou([_labels(output, reference) for output in outputs]))

    return judge


# Writing


def _make(
    request: QuantizeRequest,
    maker: Maker,
    backend: Backend,
    model: onnx.ModelProto,
    cleaning: str,
    choice: _Choice | None,
    material: _Material | None,
) -> tuple[Artifact, Comparison]:
    spec = maker.reference.spec
    packages: tuple[str, ...] = ()
    quantised: Any
    if choice is not None:
        quantised = qdq.write(choice.placement, choice.scales, choice.seen, SPELLINGS[backend.name])
    else:
        assert material is not None
        feeds = ({spec.input_name: tensor} for _, tensor, _ in material.stream())
        if request.method == "ort":
            quantised = alternatives.ort_static(model, feeds, signed=backend.name == "tflite")
        elif request.method == "dynamic":
            quantised = alternatives.ort_dynamic(model)
        else:
            quantised = alternatives.nncf_static(model, feeds, material.count)
            packages = ("nncf",)

    def record(out: Path, conversion: Conversion) -> QuantizationRecord:
        executed = backend.executed(out / conversion.files[0], conversion.spec, conversion.runtime_options)
        counts: dict[str, int] = {}
        if choice is not None:
            recipe.write(out / recipe.FILE, choice.recipe)
            for one in choice.recipe.ranges:
                counts[one.method] = counts.get(one.method, 0) + 1
        return QuantizationRecord(
            method=request.method,
            calibration=material.name if material is not None else str(request.recipe),
            count=material.count if material is not None else 0,
            findings=material.findings if material is not None else (),
            ranges=counts,
            floating=choice.recipe.floating if choice is not None else (),
            integer_mac_share=round(executed.integer_share, 6),
            machine=_machine(),
            note=executed.note,
        )

    return maker.make(backend, "int8", quantised, rewrites=(cleaning,), packages=packages, record=record)


def _machine() -> str:
    """The architecture and the instructions for 8-bit products, which decide how fast integers are."""
    import platform

    words = [platform.machine()]
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return words[0]
    words += [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "asimddp", "i8mm") if flag in flags]
    return " ".join(words)
