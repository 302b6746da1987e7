"""Comparing the masks of artifacts with the masks of the reference, picture by picture, in constant memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from edgeseg.core.arrays import Array
from edgeseg.data.dataset import Dataset, Sample, ahead
from edgeseg.data.predictor import Predictor
from edgeseg.metrics.quality import (
    Agreement,
    AgreementScores,
    ImageQuality,
    Quality,
    QualityScores,
    measure,
)


@dataclass(frozen=True)
class Gate:
    """What an artifact has to reach; shares of 1, not per cent.

    Attributes:
        min_agreement: Share of pixels that have the reference's class.
        max_miou_drop: How much dataset mIoU may be lost against the reference; only with ground-truth masks.
        min_miou: Dataset mIoU of the artifact itself; only with ground-truth masks.
    """

    min_agreement: float = 0.999
    max_miou_drop: float = 0.001
    min_miou: float | None = None


@dataclass(frozen=True)
class Compared:
    """One picture with the masks that reference and artifact make of it.

    Attributes:
        sample: The picture, with its ground truth where there is one.
        reference: [H, W], uint8 class indices.
        artifact: [H, W], uint8 class indices.
        flipped_share: Share of pixels in which the two masks differ.
        miou: mIoU of the artifact's mask on this picture; None without ground truth.
    """

    sample: Sample
    reference: Array
    artifact: Array
    flipped_share: float
    miou: float | None


@dataclass(frozen=True)
class Comparison:
    """An artifact beside its reference over a data set; None = not measured."""

    name: str
    agreement: AgreementScores
    scores: QualityScores | None
    reference: QualityScores | None
    failures: tuple[str, ...]
    worst: tuple[Compared, ...] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether every gate was reached."""
        return not self.failures


def reference_masks(reference: Predictor, dataset: Dataset) -> Iterator[tuple[Sample, Array]]:
    """Every picture of a data set with the reference's mask; decoding and pre-processing run ahead in threads."""

    def prepared(index: int) -> tuple[Sample, Array]:
        sample = dataset.read(index)
        return sample, reference.prepare(sample.image)

    for sample, tensor in ahead(prepared, range(len(dataset))):
        yield sample, reference.finish(reference.infer(tensor), *sample.image.shape[:2])


def compare(
    masks: Iterable[tuple[Sample, Array]],
    artifacts: Sequence[tuple[str, Predictor]],
    *,
    gate: Gate,
    keep_worst: int = 0,
    step: Callable[[], None] = lambda: None,
) -> list[Comparison]:
    """Run artifacts over the pictures that the reference has been run over.

    Args:
        masks: Pictures with the reference's masks, e.g. `reference_masks`.
        artifacts: Names and loaded models.
        gate: What has to be reached.
        keep_worst: How many pictures to keep of each artifact: those with most flipped pixels, then lowest mIoU.
        step: Called after each picture, for a progress bar.

    Returns:
        One comparison an artifact, in their order.
    """
    tallies = [_Tally(name, predictor, keep_worst) for name, predictor in artifacts]
    # One thread measures the pictures before while this one infers the next; a queue of one keeps memory flat.
    with ThreadPoolExecutor(1, thread_name_prefix="edgeseg-metrics") as pool:
        pending = None
        for sample, reference in masks:
            outputs = [(tally, tally.infer(sample)) for tally in tallies]
            if pending is not None:
                pending.result()
                step()
            pending = pool.submit(_count, sample, reference, outputs)
        if pending is not None:
            pending.result()
            step()
    return [tally.comparison(gate) for tally in tallies]


def _count(sample: Sample, reference: Array, outputs: Sequence[tuple[_Tally, Array]]) -> None:
    truth_of_reference: ImageQuality | None = None
    if sample.mask is not None and outputs:
        truth_of_reference = measure(sample.name, sample.mask, reference, outputs[0][0].classes)
    for tally, output in outputs:
        tally.count(sample, reference, truth_of_reference, output)


class _Tally:
    """What is summed up for one artifact."""

    def __init__(self, name: str, predictor: Predictor, keep_worst: int) -> None:
        self.name = name
        self.classes = max(2, predictor.spec.output_channels, len(predictor.spec.classes))
        self._predictor = predictor
        self._agreement = Agreement(self.classes)
        self._quality = Quality(self.classes)
        self._reference = Quality(self.classes)
        self._keep = keep_worst
        self._worst: list[tuple[float, float, int, Compared]] = []
        self._seen = 0

    def infer(self, sample: Sample) -> Array:
        return self._predictor.infer(self._predictor.prepare(sample.image))

    def count(self, sample: Sample, reference: Array, quality: ImageQuality | None, output: Array) -> None:
        mask = self._predictor.finish(output, *sample.image.shape[:2])
        share = self._agreement.add(sample.name, reference, mask)
        miou = None
        if quality is not None and sample.mask is not None:
            # Equal masks have equal scores, and most masks are equal: measuring those twice would double the cost.
            own = measure(sample.name, sample.mask, mask, self.classes) if share else quality
            self._reference.add(quality)
            self._quality.add(own)
            miou = own.miou
        self._remember(Compared(sample, reference, mask, share, miou))

    def _remember(self, compared: Compared) -> None:
        self._seen += 1
        rank = (compared.flipped_share, -(compared.miou or 0.0), -self._seen)
        if len(self._worst) < self._keep:
            heapq.heappush(self._worst, (*rank, compared))
        elif self._keep:
            heapq.heappushpop(self._worst, (*rank, compared))

    def comparison(self, gate: Gate) -> Comparison:
        agreement = self._agreement.scores()
        assert agreement is not None, "a data set has at least one picture"
        scores, reference = self._quality.scores(), self._reference.scores()
        worst = tuple(entry[-1] for entry in sorted(self._worst, key=lambda entry: entry[:3], reverse=True))
        return Comparison(self.name, agreement, scores, reference, _missed(gate, agreement, scores, reference), worst)


def _missed(
    gate: Gate, agreement: AgreementScores, scores: QualityScores | None, reference: QualityScores | None
) -> tuple[str, ...]:
    """The gates that were missed, as sentences with the figures. A NaN never passes."""
    missed = []
    agreed = 1 - agreement.flipped_share
    if not agreed >= gate.min_agreement:
        missed.append(
            f"{100 * agreed:.3f} % of the pixels agree with the reference, the gate is {_pct(gate.min_agreement)}"
        )
    if agreement.constant:
        missed.append(
            "the reference's masks are one class everywhere, so agreement proves nothing: check colour order, mean and std"
        )
    if scores is not None and reference is not None:
        drop = reference.miou - scores.miou
        if not drop <= gate.max_miou_drop:
            missed.append(f"mIoU fell by {100 * drop:.2f} points, the gate is {100 * gate.max_miou_drop:.2f}")
    if gate.min_miou is not None:
        if scores is None:
            missed.append("a mIoU is asked for, but the pictures have no ground-truth masks")
        elif not scores.miou >= gate.min_miou:
            missed.append(f"mIoU is {scores.miou:.4f}, the gate is {gate.min_miou:.4f}")
    return tuple(missed)


def _pct(share: float) -> str:
    return f"{100 * share:.6g} %"
