"""Checkpoint in, INT8 artifacts out: one calibration for all runtimes, each artifact proven before it gets its name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg import backends
from edgeseg.core.backend import Backend, Conversion
from edgeseg.core.errors import EdgesegError, unknown
from edgeseg.core.manifest import Artifact, QuantizationRecord
from edgeseg.data.dataset import open_dataset
from edgeseg.flows import calibration, retarget
from edgeseg.flows import choice as choosing
from edgeseg.flows.calibration import Material
from edgeseg.flows.choice import Choice
from edgeseg.flows.making import Maker
from edgeseg.flows.model import ModelRequest, read_model
from edgeseg.flows.parity import INT8_GATE, Comparison, Gate
from edgeseg.graph import frames, rewriting, simplify
from edgeseg.graph.rewrites import hard_swish
from edgeseg.graph.rewriting import Target
from edgeseg.quantization import alternatives, qdq, ranges, recipe
from edgeseg.quantization.qdq import Spelling
from edgeseg.quantization.recipe import QuantizationRecipe

if TYPE_CHECKING:
    import onnx

METHODS = ("edgeseg", "ort", "nncf", "dynamic")

SPELLINGS = {
    "onnx": Spelling("u8", "pairs", swish="clip", tiled=True),
    "openvino": Spelling("u8", "integers", functions=("Add",), within=True),
    "tflite": Spelling("s8", "integers"),
}
"""How each backend likes its Q/DQ graph: the same scales and the same integer weights in all of them."""

BLOCK = 16
"""Channels that integer kernels take at a time: not this machine's, because the artifact is for any."""


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
        max_float: Share of the multiplications that may stay in float for better masks; see `first_in_float`. None: the usual
            one, and none with `io`, because an input in int8 is read by integers.
        recipe: Replay this file; nothing is calibrated then.
        io: ``int8`` for input and output in int8 (TFLite); ``float`` or empty otherwise.
        command: The command line, for the manifests.
        rewrites: Names of exact rewrites to apply; None for those that INT8 profits from.
        raw_logits: Keep the values of the network's own logits.
        frames: Take frames of bytes, [1, H, W, 3] in RGB order, and prepare them inside the network.
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
    max_float: float | None = None
    recipe: Path | None = None
    io: str = ""
    command: str = ""
    rewrites: tuple[str, ...] | None = None
    raw_logits: bool = False
    frames: bool = False


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
        missed: What the search for float layers could not reach, in a sentence; empty if it found what it looked for.
    """

    quantized: tuple[Quantized, ...]
    findings: tuple[str, ...]
    recipe: QuantizationRecipe | None
    calibration_seconds: float
    assumed: tuple[str, ...]
    missed: str = ""


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
    if request.frames:
        frames.check(spec)
    if spec.states:
        raise EdgesegError("recurrent networks cannot be calibrated on single pictures yet", "export them as fp16")
    dataset = open_dataset(
        request.data or _pictures(request.calibration), mask_values=request.mask_values,
        classes=max(2, spec.output_channels),
    )  # fmt: skip
    started = time.perf_counter()
    model, cleaning = simplify.simplify(reference.model)
    # One calibration is for all backends, so they share one graph; the same on every machine, so that recipes replay.
    shared = Target(rewriting.ANY, "int8")
    rewritten = rewriting.rewrite(_at_opset(model), spec, shared, rewriting.halves(request.rewrites, shared, shared)[0])
    model, changes = rewritten.model, (cleaning, *rewritten.applied)
    replayed = recipe.read(request.recipe) if request.recipe is not None else None
    material = None
    if replayed is None:
        material = calibration.gather(
            request.calibration, spec, mask_values=request.mask_values, anyway=request.calibrate_anyway, say=say
        )
    choice: Choice | None = None
    if replayed is not None:
        choice = choosing.replay(model, replayed)
    elif request.method == "edgeseg":
        assert material is not None
        usual = 0.0 if request.io == "int8" else choosing.MAX_FLOAT
        choice = choosing.choose(
            model, spec, material, request.gate, method=request.ranges, rank=request.rank,
            max_float=usual if request.max_float is None else request.max_float, say=say,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    maker = Maker(reference, dataset, request.out / spec.name, request.gate, request.command)
    made = []
    for backend in targets:
        say(f"making {backend.name}-int8")
        begun = time.perf_counter()
        try:
            artifact, comparison = _make(request, maker, backend, model, changes, choice, material)
        except EdgesegError as error:
            made.append(Quantized(backend.name, None, None, time.perf_counter() - begun, error))
        else:
            made.append(Quantized(backend.name, artifact, comparison, time.perf_counter() - begun))
    if all(item.error is not None for item in made):
        raise next(item.error for item in made if item.error is not None)
    return QuantizeResult(
        tuple(made),
        material.findings if material else (),
        choice.recipe if choice else None,
        seconds,
        reference.assumed,
        choice.missed if choice else "",
    )


def _checked(request: QuantizeRequest) -> list[Backend]:
    if request.method not in METHODS:
        raise unknown("method", request.method, METHODS)
    if request.ranges and request.ranges not in ranges.METHODS:
        raise unknown("range method", request.ranges, ranges.METHODS)
    if request.recipe is not None and request.method != "edgeseg":
        raise EdgesegError("a recipe is of edgeseg's own method", "leave --method or --recipe out")
    if request.frames and request.method != "edgeseg":
        raise EdgesegError("frames of bytes are for edgeseg's own method", "leave --method or --input out")
    if request.frames and request.io == "int8":
        raise EdgesegError("the input cannot be uint8 and int8 at once", "leave --io or --input out")
    for rewrite in request.rewrites or ():
        rewriting.load(rewrite)  # raises, naming the known ones
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
        if request.io == "int8" and name != "tflite":
            raise EdgesegError(f"--io int8 is for tflite, {name} takes and gives floats", "--target tflite")
        chosen.append(backend)
    if not chosen:
        raise EdgesegError("no target is named", f"--target {','.join(backends.names())}")
    return chosen


def _pictures(text: str) -> str:
    """The calibration's pictures for the gates, where it has pictures."""
    if calibration.is_tensors(text):
        raise EdgesegError("ready-made tensors have no masks to compare", "name pictures for the gates: --data DATA")
    return text


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network in the oldest opset that has all that INT8 graphs are made of, or newer."""
    from onnx import version_converter

    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= hard_swish.FIRST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, hard_swish.FIRST_OPSET)
    except Exception as error:  # whatever the converter stumbles over
        if opset >= qdq.FIRST_OPSET:
            return model  # hard swishes that are spelled out are not put together then
        raise EdgesegError(
            f"the network has opset {opset} and cannot be brought to {hard_swish.FIRST_OPSET}: {error}",
            "export it again with a newer opset",
        ) from error


def _make(
    request: QuantizeRequest,
    maker: Maker,
    backend: Backend,
    model: onnx.ModelProto,
    changes: tuple[str, ...],
    choice: Choice | None,
    material: Material | None,
) -> tuple[Artifact, Comparison]:
    spec = maker.reference.spec
    packages: tuple[str, ...] = ()
    quantised: Any
    if choice is not None:
        shared, own = Target(rewriting.ANY, "int8"), Target(backend.name, "int8", BLOCK)
        behind = rewriting.halves(request.rewrites, shared, own)[1]
        if request.raw_logits:
            behind = tuple(name for name in behind if name not in rewriting.HEADS)
        written = retarget.retarget(choice, spec, own, SPELLINGS[backend.name], behind, bytewise=request.frames)
        quantised, changes = written.model, (*changes, *written.applied)
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

    return maker.make(
        backend,
        "int8",
        quantised,
        rewrites=changes,
        packages=packages,
        options={"io": "int8"} if request.io == "int8" else {},
        spec=frames.frame_spec(spec) if request.frames else None,
        record=record,
    )


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
