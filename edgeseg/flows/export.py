"""Checkpoint in, artifacts out, each proven against the reference before it appears under its name."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg import backends, devices
from edgeseg.core import atomic, records
from edgeseg.core.backend import PRECISIONS, Backend
from edgeseg.core.errors import EdgesegError, unknown
from edgeseg.core.manifest import Artifact
from edgeseg.data.dataset import open_dataset
from edgeseg.flows import tune
from edgeseg.flows.making import Maker
from edgeseg.flows.model import ModelRequest, read_model
from edgeseg.flows.parity import Gate
from edgeseg.graph import frames, rewriting, simplify
from edgeseg.graph.rewriting import HEADS, Target

if TYPE_CHECKING:
    import onnx

PARITY_IMAGES = 8
"""How many pictures `export` itself compares; `verify` takes all of them."""


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        model: The checkpoint and what is said about it.
        targets: Backend names.
        precision: ``fp32`` or ``fp16``.
        data: Pictures for the parity check; the first few, spread over the set, are used.
        mask_values: Coding of their masks; empty to infer it.
        out: The folder of all models' artifacts.
        gate: What an artifact has to reach.
        command: The command line, for the manifest.
        options: What single backends can be told, e.g. ``io_layout`` of `tflite`: the names of further parameters of
            their `convert`.
        rewrites: Names of exact rewrites to apply; None for those that each target profits from.
        tune: Choose the rewrites by measuring them on the device `tune_on`; `rewrites` is None then.
        tune_on: Name of the device.
        raw_logits: Keep the values of the network's own logits, not only what masks and probabilities hang on.
        frames: Take frames of bytes, [1, H, W, 3] in RGB order, and prepare them inside the network.
    """

    model: ModelRequest
    targets: tuple[str, ...]
    precision: str = "fp32"
    data: str = f"sample:{PARITY_IMAGES}"
    mask_values: str = ""
    out: Path = Path("exports")
    gate: Gate = Gate()
    command: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    rewrites: tuple[str, ...] | None = None
    tune: bool = False
    tune_on: str = "cpu"
    raw_logits: bool = False
    frames: bool = False


@dataclass(frozen=True)
class Exported:
    """One target's outcome: an artifact, or the error that prevented it.

    Attributes:
        target: The backend.
        artifact: What was written; None after an error.
        seconds: Conversion, parity check and writing.
        error: Why there is no artifact.
    """

    target: str
    artifact: Artifact | None
    seconds: float
    error: EdgesegError | None = None


@dataclass(frozen=True)
class ExportResult:
    """Everything one `export` made."""

    reference: Artifact
    exported: tuple[Exported, ...]
    assumed: tuple[str, ...]


def export(request: ExportRequest, *, say: Callable[[str], None] = lambda line: None) -> ExportResult:
    """Make one artifact for each target.

    A target that fails does not stop the others; an artifact that misses its gate is written all the same, with the
    verdict in its manifest, so that the cause can be looked for.

    Args:
        request: What to export.
        say: Told what is being done, for a progress line.

    Raises:
        EdgesegError: The request, the checkpoint or the pictures cannot be used, or every target failed.
    """
    targets = _checked(request)
    say(f"reading {request.model.checkpoint}")
    reference = read_model(request.model)
    if request.frames:
        frames.check(reference.spec)
    dataset = open_dataset(
        request.data, mask_values=request.mask_values, classes=max(2, reference.spec.output_channels)
    ).head(PARITY_IMAGES)
    folder = request.out / reference.spec.name
    samples = tuple(dataset.stream())
    model, cleaning = simplify.simplify(reference.model)
    maker = Maker(reference, dataset, folder, request.gate, request.command, samples)
    exported = []
    for backend in targets:
        say(f"converting to {backend.name}-{request.precision}")
        started = time.perf_counter()
        try:
            options = {name: value for name, value in request.options.items() if name in _understood(backend)}
            artifact = _make(request, maker, backend, model, cleaning, options, say)
        except EdgesegError as error:
            exported.append(Exported(backend.name, None, time.perf_counter() - started, error))
        else:
            exported.append(Exported(backend.name, artifact, time.perf_counter() - started))
    if all(item.error is not None for item in exported):
        raise next(item.error for item in exported if item.error is not None)
    return ExportResult(maker.kept, tuple(exported), reference.assumed)


def _make(
    request: ExportRequest,
    maker: Maker,
    backend: Backend,
    model: onnx.ModelProto,
    cleaning: str,
    options: Mapping[str, str],
    say: Callable[[str], None],
) -> Artifact:
    """Rewrite for one target, convert and compare; with `tune`, what was measured stands beside the artifact."""
    spec = maker.reference.spec
    changes: tuple[str, ...] = (cleaning,)
    if request.frames:
        model, spec, changes = frames.take_frames(model, spec), frames.frame_spec(spec), (cleaning, frames.NAME)
    without = HEADS if request.raw_logits else ()
    chosen, tuning = request.rewrites, None
    if request.tune:
        tuning = tune.tune(
            model, spec, backend, request.precision, devices.load(request.tune_on), without=without, options=options,
            say=say,
        )  # fmt: skip
        chosen = tuning.rewrites
    target = Target(backend.name, request.precision, rewriting.block_of_this_cpu())
    rewritten = rewriting.rewrite(model, spec, target, chosen, without=without)
    artifact, _ = maker.make(
        backend, request.precision, rewritten.model, rewrites=(*changes, *rewritten.applied), options=options, spec=spec
    )
    if tuning is not None:
        atomic.write_text(artifact.folder / tune.FILE, records.to_json(tuning, indent=2) + "\n")
    return artifact


def _checked(request: ExportRequest) -> list[Backend]:
    """The backends asked for; everything that can be refused before the checkpoint is read is refused here."""
    if request.precision not in PRECISIONS:
        raise unknown("precision", request.precision, PRECISIONS)
    if not request.targets:
        raise EdgesegError("no target is named", f"--target {','.join(backends.names())}")
    for rewrite in request.rewrites or ():
        rewriting.load(rewrite)  # raises, naming the known ones
    chosen = []
    for name in dict.fromkeys(request.targets):
        if name not in backends.names():
            raise unknown("target", name, backends.names())
        backend = backends.load(name)
        if request.precision == "int8" or request.precision not in backend.precisions:
            hint = "edgeseg quantize --int8" if request.precision == "int8" else ", ".join(backend.precisions)
            raise EdgesegError(f"export makes no {request.precision} artifact for {name}", hint)
        chosen.append(backend)
    for option in request.options:
        if not any(option in _understood(backend) for backend in chosen):
            raise EdgesegError(
                f"none of the targets {', '.join(request.targets)} can be told --{option.replace('_', '-')}",
                "leave it out, or name a target that can, e.g. --target tflite",
            )
    return chosen


def _understood(backend: Backend) -> set[str]:
    """The options that a backend's `convert` has beyond those of the protocol."""
    return set(inspect.signature(backend.convert).parameters) - set(inspect.signature(Backend.convert).parameters)
