"""Are the masks of artifacts still the reference's masks? Measured over a data set, with a gallery to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edgeseg import backends
from edgeseg.backends import onnx as onnx_backend
from edgeseg.core import manifest
from edgeseg.core.device import Settings
from edgeseg.core.errors import ArtifactError
from edgeseg.core.manifest import Artifact
from edgeseg.data.dataset import Dataset, open_dataset
from edgeseg.data.predictor import Predictor
from edgeseg.flows.parity import Comparison, Gate, Lane, compare, gate_for, plan_lanes
from edgeseg.flows.verify_device import verify_there
from edgeseg.report import gallery

GALLERY_IMAGES = 12


@dataclass(frozen=True)
class VerifyRequest:
    """What to verify.

    Attributes:
        artifacts: Folders of artifacts; all made from one reference.
        data: The pictures, as after ``--data``.
        mask_values: Coding of their masks; empty to infer it.
        min_agreement: Share of pixels that must have the reference's class; None for what the artifact's precision
            has to reach, as for `max_miou_drop`.
        max_miou_drop: Dataset mIoU that may be lost against the reference.
        min_miou: Dataset mIoU that must be reached.
        max_connectivity_drop: Connectivity that may be lost against the reference.
        threads: CPU cores to use; 0 for all.
        gallery: HTML file to write the worst pictures to; None for none.
        device: Where the artifacts run; empty: in this process.
        settings: What was asked of that device.
    """

    artifacts: tuple[Path, ...]
    data: str = "sample"
    mask_values: str = ""
    min_agreement: float | None = None
    max_miou_drop: float | None = None
    min_miou: float | None = None
    max_connectivity_drop: float | None = None
    threads: int = 0
    gallery: Path | None = None
    device: str = ""
    settings: Settings = Settings()


@dataclass(frozen=True)
class VerifyResult:
    """What was found.

    Attributes:
        dataset: The pictures.
        comparisons: One an artifact, in the order of the request.
        seconds: For everything after the models were loaded.
        gallery: Where the gallery was written.
    """

    dataset: Dataset
    comparisons: tuple[Comparison, ...]
    seconds: float
    gallery: Path | None


def verify(
    request: VerifyRequest,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VerifyResult:
    """Compare artifacts with their reference.

    Args:
        request: What to verify.
        say: Told what is being done.
        progress: Called with pictures done and in all.

    Raises:
        ArtifactError: An artifact or the reference is missing or damaged, or the artifacts have several references.
        DeviceUnreachable: The device does not answer.
        DataError: The pictures cannot be used.
    """
    artifacts = [manifest.read(folder) for folder in request.artifacts]
    reference = _common_reference(artifacts)
    classes = max(2, reference.manifest.spec.output_channels)
    dataset = open_dataset(request.data, mask_values=request.mask_values, classes=classes)
    keep_worst = GALLERY_IMAGES if request.gallery else 0
    if request.device:
        started = time.perf_counter()
        say(f"making masks on {request.device}")
        comparisons = verify_there(
            artifacts,
            load_reference(reference, threads=request.threads),
            dataset,
            device=request.device,
            settings=request.settings,
            gates=[_gate(request, artifact) for artifact in artifacts],
            keep_worst=keep_worst,
            step=lambda done: progress(done, len(dataset)),
        )
        return _finished(request, dataset, comparisons, started)
    lanes_wanted, threads = plan_lanes(request.threads)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, len(dataset))

    with ExitStack() as stack:
        say("loading the models")
        lanes = []
        for _ in range(min(lanes_wanted, len(dataset))):
            lane = Lane(
                load_reference(reference, threads=threads),
                tuple((artifact.name, load(artifact, threads=threads)) for artifact in artifacts),
            )
            stack.callback(lane.close)
            lanes.append(lane)
        started = time.perf_counter()
        comparisons = compare(
            dataset.read,
            len(dataset),
            lanes,
            gates=[_gate(request, artifact) for artifact in artifacts],
            keep_worst=keep_worst,
            step=step,
        )
        return _finished(request, dataset, comparisons, started)


def _finished(
    request: VerifyRequest, dataset: Dataset, comparisons: Sequence[Comparison], started: float
) -> VerifyResult:
    seconds = time.perf_counter() - started
    if request.gallery is not None:
        gallery.write(request.gallery, dataset.name, [_section(comparison) for comparison in comparisons])
    return VerifyResult(dataset, tuple(comparisons), seconds, request.gallery)


def _gate(request: VerifyRequest, artifact: Artifact) -> Gate:
    return gate_for(
        artifact.manifest.precision,
        min_agreement=request.min_agreement,
        max_miou_drop=request.max_miou_drop,
        min_miou=request.min_miou,
        max_connectivity_drop=request.max_connectivity_drop,
    )


def load(artifact: Artifact, *, threads: int) -> Predictor:
    """Load an artifact with its backend.

    Raises:
        MissingDependency: The backend's package is not installed.
    """
    document = artifact.manifest
    backend = backends.load(document.backend)
    session = backend.load(artifact.model_file, document.spec, threads=threads, options=document.runtime_options)
    return Predictor(document.spec, session)


def load_reference(artifact: Artifact, *, threads: int) -> Predictor:
    """Load a reference as `verify` runs it: the graph as it is written, and no busy waiting between the runs, because
    the other cores decode and measure meanwhile.
    """
    options = {onnx_backend.PLAIN: "off", onnx_backend.SPINNING: "off"}
    return load(replace(artifact, manifest=replace(artifact.manifest, runtime_options=options)), threads=threads)


def _common_reference(artifacts: Sequence[Artifact]) -> Artifact:
    if not artifacts:
        raise ArtifactError("no artifact is named", "edgeseg verify exports/<model>/<backend>-<precision>")
    references = [manifest.reference_of(artifact) for artifact in artifacts]
    first = references[0]
    for artifact, other in zip(artifacts, references, strict=True):
        if other.manifest.files[0].sha256 != first.manifest.files[0].sha256:
            raise ArtifactError(
                f"{artifacts[0].name} and {artifact.name} come from different references",
                "verify the artifacts of one model at a time",
            )
    return first


def _section(comparison: Comparison) -> gallery.Section:
    """A comparison as the gallery shows it."""
    agreement, scores, reference = comparison.agreement, comparison.scores, comparison.reference
    figures = [
        ("flipped pixels", f"{100 * agreement.flipped_share:.4f} % ({agreement.flipped_pixels})"),
        ("pictures changed", f"{agreement.images_changed} of {agreement.images}"),
    ]
    if scores is not None and reference is not None:
        figures += [
            ("mIoU (reference)", f"{scores.miou:.4f} ({reference.miou:.4f})"),
            ("foreground IoU", f"{scores.foreground_iou:.4f} ({reference.foreground_iou:.4f})"),
        ]
    figures += [("gate", failure) for failure in comparison.failures]
    pictures = tuple(
        gallery.Picture(
            name=compared.sample.name,
            caption=(
                f"{100 * compared.flipped_share:.3f} % flipped",
                *([f"mIoU {compared.miou:.4f}"] if compared.miou is not None else []),
            ),
            image=compared.sample.image,
            reference=compared.reference,
            artifact=compared.artifact,
        )
        for compared in comparison.worst
    )
    return gallery.Section(comparison.name, comparison.passed, tuple(figures), pictures)
