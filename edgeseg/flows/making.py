"""Making one artifact: converted, compared with the reference, and only then put under its name.

What `export` and `quantize` have in common.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeseg import __version__
from edgeseg.backends import onnx as onnx_backend
from edgeseg.core import atomic, manifest
from edgeseg.core.backend import Backend, Conversion
from edgeseg.core.manifest import REFERENCE, Artifact, Manifest, ParityVerdict, QuantizationRecord
from edgeseg.core.spec import ModelSpec
from edgeseg.data.dataset import Dataset, Sample
from edgeseg.data.predictor import Predictor
from edgeseg.flows.model import ReferenceModel
from edgeseg.flows.parity import Comparison, Gate, Lane, compare
from edgeseg.flows.remembered import Remembered

PLAIN = {onnx_backend.PLAIN: "off"}
"""Runtime options of the reference: ONNX Runtime with graph optimisations off."""


@dataclass(frozen=True)
class Maker:
    """What all artifacts of one command share.

    Attributes:
        reference: The reference model.
        dataset: The pictures of the comparison.
        samples: The same, decoded; None to decode them for each comparison.
        folder: The model's folder, e.g. ``exports/pphumanseg-lite``.
        gate: What an artifact has to reach.
        command: The command line, for the manifests.
    """

    reference: ReferenceModel
    dataset: Dataset
    folder: Path
    gate: Gate
    command: str
    samples: tuple[Sample, ...] | None = None
    remembered: Remembered = field(default_factory=Remembered, repr=False)

    @functools.cached_property
    def kept(self) -> Artifact:
        """The reference on disk; written with the first artifact, so that a failed command replaces nothing."""
        return write_reference(self.reference, self.folder, self.command)

    def make(
        self,
        backend: Backend,
        precision: str,
        model: Any,
        *,
        rewrites: tuple[str, ...] = (),
        packages: tuple[str, ...] = (),
        options: Mapping[str, Any] = MappingProxyType({}),
        spec: ModelSpec | None = None,
        record: Callable[[Path, Conversion], QuantizationRecord] | None = None,
    ) -> tuple[Artifact, Comparison]:
        """Convert a model, compare it and write it.

        Args:
            backend: The runtime.
            precision: ``fp32``, ``fp16`` or ``int8``.
            model: What the backend converts.
            rewrites: What was done to the reference's graph.
            packages: More packages whose versions belong in the manifest.
            options: Further parameters of the backend's `convert`.
            spec: The spec of `model`; None for the reference's.
            record: Called with the folder and the conversion for how it was quantised; may write files of its own.
        """
        place = self.folder / f"{backend.name}-{precision}"
        with atomic.folder(place) as out:
            convert: Callable[..., Conversion] = backend.convert
            conversion = convert(model, spec or self.reference.spec, precision, out, **options)
            comparison = self._compare(backend, conversion, out)
            document = _manifest(
                self.reference, conversion, out, backend.name, precision, self.command,
                runtime_options=conversion.runtime_options, rewrites=rewrites, packages=(backend.package, *packages),
            )  # fmt: skip
            manifest.write(
                out,
                replace(
                    document,
                    reference_sha256=self.kept.manifest.files[0].sha256,
                    parity=verdict(comparison, self.dataset),
                    quantization=record(out, conversion) if record is not None else None,
                ),
            )
        return manifest.read(place, check=False), comparison

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
        read = self.samples.__getitem__ if self.samples is not None else self.dataset.read
        try:
            return compare(read, len(self.dataset), [lane], gates=[self.gate], remembered=self.remembered)[0]
        finally:
            lane.close()


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
