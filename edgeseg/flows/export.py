"""Checkpoint in, artifacts out, each proven against the reference before it appears under its name."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg import __version__, backends
from edgeseg.backends import onnx as onnx_backend
from edgeseg.core import atomic, manifest
from edgeseg.core.backend import PRECISIONS, Backend, Conversion
from edgeseg.core.errors import EdgesegError, unknown
from edgeseg.core.manifest import REFERENCE, Artifact, Manifest, ParityVerdict
from edgeseg.data.dataset import Dataset, Sample, open_dataset
from edgeseg.data.predictor import Predictor
from edgeseg.flows.model import ModelRequest, ReferenceModel, read_model
from edgeseg.flows.parity import Comparison, Gate, Lane, compare
from edgeseg.graph import simplify

if TYPE_CHECKING:
    import onnx

PARITY_IMAGES = 8
"""How many pictures `export` itself compares; `verify` takes all of them."""

PLAIN = {onnx_backend.PLAIN: "off"}
"""Runtime options of the reference: ONNX Runtime with graph optimisations off."""


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
    dataset = open_dataset(
        request.data, mask_values=request.mask_values, classes=max(2, reference.spec.output_channels)
    ).head(PARITY_IMAGES)
    folder = request.out / reference.spec.name
    samples = tuple(dataset.stream())
    model, cleaning = simplify.simplify(reference.model)
    work = _Work(request, reference, model, (cleaning,), dataset, samples, folder)
    exported = []
    for backend in targets:
        say(f"converting to {backend.name}-{request.precision}")
        started = time.perf_counter()
        try:
            artifact = work.convert(backend)
        except EdgesegError as error:
            exported.append(Exported(backend.name, None, time.perf_counter() - started, error))
        else:
            exported.append(Exported(backend.name, artifact, time.perf_counter() - started))
    if all(item.error is not None for item in exported):
        raise next(item.error for item in exported if item.error is not None)
    return ExportResult(work.kept, tuple(exported), reference.assumed)


def write_reference(reference: ReferenceModel, folder: Path, command: str) -> Artifact:
    """Write the reference beside the artifacts.

    Args:
        reference: The model.
        folder: The model's folder, e.g. ``exports/pphumanseg-lite``.
        command: The command line, for the manifest.
    """
    place = folder / REFERENCE
    with atomic.folder(place) as out:
        conversion = onnx_backend.BACKEND.convert(reference.model, reference.spec, "fp32", out)
        manifest.write(out, _manifest(reference, conversion, out, "onnx", "fp32", command, runtime_options=PLAIN))
    return manifest.read(place, check=False)


def _checked(request: ExportRequest) -> list[Backend]:
    """The backends asked for; everything that can be refused before the checkpoint is read is refused here."""
    if request.precision not in PRECISIONS:
        raise unknown("precision", request.precision, PRECISIONS)
    if not request.targets:
        raise EdgesegError("no target is named", f"--target {','.join(backends.names())}")
    chosen = []
    for name in dict.fromkeys(request.targets):
        if name not in backends.names():
            raise unknown("target", name, backends.names())
        backend = backends.load(name)
        if request.precision not in backend.precisions:
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


@dataclass(frozen=True)
class _Work:
    """What all targets of one export share."""

    request: ExportRequest
    reference: ReferenceModel
    model: onnx.ModelProto
    cleaning: tuple[str, ...]
    dataset: Dataset
    samples: tuple[Sample, ...]
    folder: Path

    @functools.cached_property
    def kept(self) -> Artifact:
        """The reference on disk; written with the first artifact, so that a failed export replaces nothing."""
        return write_reference(self.reference, self.folder, self.request.command)

    def convert(self, backend: Backend) -> Artifact:
        request = self.request
        place = self.folder / f"{backend.name}-{request.precision}"
        with atomic.folder(place) as out:
            options = {name: value for name, value in request.options.items() if name in _understood(backend)}
            convert: Callable[..., Conversion] = backend.convert
            conversion = convert(self.model, self.reference.spec, request.precision, out, **options)
            comparison = self._compare(backend, conversion, out)
            document = _manifest(
                self.reference, conversion, out, backend.name, request.precision, request.command,
                runtime_options=conversion.runtime_options, rewrites=self.cleaning, packages=(backend.package,),
            )  # fmt: skip
            manifest.write(
                out,
                replace(
                    document,
                    reference_sha256=self.kept.manifest.files[0].sha256,
                    parity=verdict(comparison, self.dataset),
                ),
            )
        return manifest.read(place, check=False)

    def _compare(self, backend: Backend, conversion: Conversion, out: Path) -> Comparison:
        options = {onnx_backend.PLAIN: "off", onnx_backend.SPINNING: "off"}
        reference = onnx_backend.OnnxSession(
            self.reference.model.SerializeToString(),
            onnx_backend.output_names(self.reference.spec),
            threads=0,
            options=options,
        )
        artifact = backend.load(
            out / conversion.files[0], conversion.spec, threads=0, options=conversion.runtime_options
        )
        lane = Lane(Predictor(self.reference.spec, reference), ((backend.name, Predictor(conversion.spec, artifact)),))
        try:
            return compare(self.samples.__getitem__, len(self.samples), [lane], gate=self.request.gate)[0]
        finally:
            lane.close()


def verdict(comparison: Comparison, dataset: Dataset) -> ParityVerdict:
    """A comparison in the form that a manifest keeps."""
    return ParityVerdict(
        passed=comparison.passed,
        data=dataset.name,
        synthetic=dataset.synthetic,
        images=comparison.agreement.images,
        flipped_share=comparison.agreement.flipped_share,
        miou=comparison.scores.miou if comparison.scores else None,
        reference_miou=comparison.reference.miou if comparison.reference else None,
        failures=comparison.failures,
    )


def _manifest(
    reference: ReferenceModel,
    conversion: Conversion,
    out: Path,
    backend: str,
    precision: str,
    command: str,
    *,
    runtime_options: dict[str, str],
    rewrites: tuple[str, ...] = (),
    packages: tuple[str, ...] = (),
) -> Manifest:
    return Manifest(
        model=reference.spec.name,
        backend=backend,
        precision=precision,
        spec=conversion.spec,
        files=tuple(manifest.entry(out / name) for name in conversion.files),
        source=reference.source,
        command=command,
        tools=_versions(("onnx", "onnxruntime", "onnxsim", *packages)),
        runtime_options=runtime_options,
        rewrites=rewrites,
        notes=(*reference.assumed, *conversion.notes),
    )


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {"edgeseg": __version__}
    for package in packages:
        for name in (package, package.replace("_", "-")):
            try:
                versions[name] = importlib.metadata.version(name)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return versions
