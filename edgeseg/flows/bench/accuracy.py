"""The accuracy axis: masks made on the device, judged on the host, in a pass of its own after the timing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from edgeseg import backends
from edgeseg.backends import onnx as onnx_backend
from edgeseg.core.arrays import Array
from edgeseg.core.errors import EdgesegError
from edgeseg.core.manifest import Artifact
from edgeseg.core.measurement import Mask
from edgeseg.data.dataset import Dataset, Sample
from edgeseg.data.predictor import Predictor
from edgeseg.flows.bench.crew import Crew, Mate
from edgeseg.flows.bench.judged import Judgement, Shelf
from edgeseg.flows.bench.results import Accuracy
from edgeseg.metrics.confusion import mean_iou
from edgeseg.metrics.connectivity import paired_loss
from edgeseg.metrics.latency import Interval
from edgeseg.metrics.quality import Agreement, Quality, agree, measure
from edgeseg.worker.bench import decode

CHUNK = 8
"""Pictures on the device at a time."""
REFERENCE = "reference"
"""Item of the reference's own masks."""


@dataclass(frozen=True)
class Worst:
    """A picture in which an artifact is far from its reference."""

    artifact: str
    flipped_share: float
    miou: float | None
    sample: Sample
    reference: Array
    mask: Array


@dataclass(frozen=True)
class _Candidate:
    """A picture that may be among the worst; without its masks it was judged by an earlier session."""

    judged: Judgement
    index: int
    worst: Worst | None = None

    @property
    def rank(self) -> tuple[float, float]:
        return -self.judged.flipped_share, 1.0 if self.judged.miou is None else self.judged.miou


@dataclass
class _Tally:
    """What is summed up for one artifact, or for the reference."""

    classes: int
    keep_worst: int = 0
    quality: Quality = field(init=False)
    agreement: Agreement = field(init=False)
    matrices: list[Array] = field(default_factory=list)
    connectivity: list[float | None] = field(default_factory=list)
    worst: list[_Candidate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.quality = Quality(self.classes)
        self.agreement = Agreement(self.classes)

    def add(self, judged: Judgement, index: int, worst: Worst | None = None) -> None:
        if judged.quality is not None:
            self.quality.add(judged.quality)
            self.matrices.append(judged.quality.matrix)
            self.connectivity.append(judged.quality.connectivity)
        if judged.agreement is not None:
            self.agreement.add(judged.agreement)
            self.worst.append(_Candidate(judged, index, worst))
            self.worst.sort(key=lambda one: one.rank)
            del self.worst[self.keep_worst :]

    def record(self, item: str, reference: _Tally | None = None) -> Accuracy:
        interval, loss = None, None
        if self.matrices:
            interval, loss = miou_intervals(self.matrices, reference.matrices if reference else ())
        scores, pieces = self.quality.scores(), None
        if reference is not None and len(reference.connectivity) == len(self.connectivity):
            pairs = zip(reference.connectivity, self.connectivity, strict=True)
            pieces = paired_loss([(base, own) for base, own in pairs if base is not None and own is not None])
        return Accuracy(item, scores, self.agreement.scores(), interval, loss, pieces)


def load_reference(artifact: Artifact) -> Predictor:
    """The reference as `verify` runs it: as it is written, one thread, no busy waiting."""
    options = {onnx_backend.PLAIN: "off", onnx_backend.SPINNING: "off"}
    document = replace(artifact.manifest, runtime_options=options)
    session = backends.load(document.backend).load(
        artifact.model_file, document.spec, threads=1, options=document.runtime_options
    )
    return Predictor(document.spec, session)


def run(
    crew: Crew,
    mates: Sequence[Mate],
    reference: Predictor | None,
    dataset: Dataset,
    *,
    keep_worst: int = 0,
    kept: Path | None = None,
    step: Callable[[int], None] = lambda images: None,
) -> tuple[list[Accuracy], list[Worst]]:
    """Judge the masks of artifacts.

    Args:
        crew: The workers.
        mates: One variant of each artifact.
        reference: The reference, on the host; None: no agreement is measured.
        dataset: The pictures.
        keep_worst: How many pictures to keep of each artifact.
        kept: A file in which judgements are kept until this is finished; what is there already is not judged again.
        step: Told how many pictures are finished.

    Returns:
        One record for each artifact that gave a mask for every picture, and ``reference`` for the reference; the
        worst pictures.
    """
    classes = max(2, *(max(mate.artifact.manifest.spec.output_channels, 2) for mate in mates)) if mates else 2
    tallies = {mate.variant.key: _Tally(classes, keep_worst) for mate in mates}
    of_reference = _Tally(classes)
    shelf = Shelf(kept, classes, [pair.name for pair in dataset.pairs])
    done = 0
    for earlier in shelf.read([REFERENCE, *tallies]):
        for item, judgements in earlier.items():
            tally = of_reference if item == REFERENCE else tallies[item]
            for index, judged in enumerate(judgements, done):
                tally.add(judged, index)
        done += len(earlier[REFERENCE])
        step(done)
    for samples in _chunks(dataset.stream(done), CHUNK):
        chunk: dict[str, list[Judgement]] = {}
        truths = [reference.mask(sample.image) if reference is not None else None for sample in samples]
        chunk[REFERENCE] = [
            _judged(sample, None, truth, classes) for sample, truth in zip(samples, truths, strict=True)
        ]
        for index, judged in enumerate(chunk[REFERENCE], done):
            of_reference.add(judged, index)
        for mate in mates:
            if mate.variant.key not in tallies:
                continue
            masks = _masks(crew, mate, samples)
            if masks is None:
                del tallies[mate.variant.key]  # a score over some of the pictures is no score over the data set
                continue
            judgements = chunk[mate.variant.key] = []
            for index, (sample, truth, mask) in enumerate(zip(samples, truths, masks, strict=True), done):
                judged = _judged(sample, truth, mask, classes)
                tallies[mate.variant.key].add(judged, index, _worst(mate, judged, sample, truth, mask))
                judgements.append(judged)
        shelf.keep(done, chunk)
        done += len(samples)
        step(done)
    found = [tally.record(key, of_reference) for key, tally in tallies.items()]
    if reference is not None:
        found.insert(0, of_reference.record(REFERENCE))
    worst = [
        one.worst or _again(crew, mate, reference, one.judged, dataset.read(one.index))
        for mate in mates
        if mate.variant.key in tallies
        for one in tallies[mate.variant.key].worst
    ]
    shelf.remove()
    return found, [one for one in worst if one is not None]


def miou_intervals(
    matrices: Sequence[Array], reference: Sequence[Array], *, draws: int = 1000
) -> tuple[Interval, Interval | None]:
    """Dataset mIoU and its loss against the reference, with 95 % bootstrap intervals over pictures.

    Args:
        matrices: One confusion matrix a picture.
        reference: The reference's matrices of the same pictures, drawn together with the others; or none.
        draws: Bootstrap resamples.
    """
    stack = np.asarray(matrices, np.float64)
    counts = np.random.default_rng(0).multinomial(len(stack), np.full(len(stack), 1 / len(stack)), size=draws)

    def drawn(one: Array) -> Array:
        return np.array([mean_iou(matrix) for matrix in np.tensordot(counts, one, axes=(1, 0))])

    values, value = drawn(stack), mean_iou(stack.sum(axis=0))
    loss = None
    if len(reference) == len(matrices):
        base = np.asarray(reference, np.float64)
        loss = _interval(mean_iou(base.sum(axis=0)) - value, drawn(base) - values)
    return _interval(value, values), loss


def _interval(value: float, draws: Array) -> Interval:
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Interval(value, min(float(low), value), max(float(high), value))


def _chunks(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while chunk := list(islice(samples, size)):
        yield chunk


def _masks(crew: Crew, mate: Mate, samples: Sequence[Sample]) -> list[Array] | None:
    """The device's masks of some pictures; None if one is missing."""
    names, answers = crew.masks(mate, [sample.image for sample in samples])
    try:
        found = {answer.frame: decode(answer) for answer in answers if isinstance(answer, Mask)}
    except EdgesegError:
        return None
    masks = [found.get(name) for name in names]
    shapes = [sample.image.shape[:2] for sample in samples]
    complete = [mask for mask, shape in zip(masks, shapes, strict=False) if mask is not None and mask.shape == shape]
    return complete if len(complete) == len(samples) else None


def _judged(sample: Sample, reference: Array | None, mask: Array | None, classes: int) -> Judgement:
    quality = agreement = None
    if mask is not None and sample.mask is not None:
        quality = measure(sample.name, sample.mask, mask, classes)
    if mask is not None and reference is not None:
        agreement = agree(sample.name, reference, mask, classes)
    return Judgement(sample.name, quality, agreement)


def _worst(mate: Mate, judged: Judgement, sample: Sample, reference: Array | None, mask: Array) -> Worst | None:
    if reference is None:
        return None
    return Worst(mate.variant.artifact, judged.flipped_share, judged.miou, sample, reference, mask)


def _again(crew: Crew, mate: Mate, reference: Predictor | None, judged: Judgement, sample: Sample) -> Worst | None:
    """A picture that an earlier session judged, with its masks made anew."""
    masks = _masks(crew, mate, [sample])
    if masks is None or reference is None:
        return None
    return _worst(mate, judged, sample, reference.mask(sample.image), masks[0])
