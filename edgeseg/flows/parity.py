"""Comparing the masks of artifacts with the masks of the reference, picture by picture, in constant memory."""

from __future__ import annotations

import heapq
import os
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeseg.core.arrays import Array
from edgeseg.data.dataset import Sample, ahead
from edgeseg.data.predictor import Predictor
from edgeseg.flows.remembered import Remembered
from edgeseg.metrics.connectivity import paired_loss
from edgeseg.metrics.latency import Interval
from edgeseg.metrics.quality import (
    Agreement,
    AgreementScores,
    ImageAgreement,
    ImageQuality,
    Quality,
    QualityScores,
    agree,
    measure,
)


@dataclass(frozen=True)
class Gate:
    """What an artifact has to reach; shares of 1, not per cent.

    Attributes:
        min_agreement: Share of pixels that have the reference's class.
        max_miou_drop: How much dataset mIoU may be lost against the reference; only with ground-truth masks.
        min_miou: Dataset mIoU of the artifact itself; only with ground-truth masks.
        max_connectivity_drop: How much connectivity may be lost against the reference; missed only if the whole
            interval over the pictures lies above it, because single islands make it a noisy figure.
    """

    min_agreement: float = 0.999
    max_miou_drop: float = 0.001
    min_miou: float | None = None
    max_connectivity_drop: float | None = None


FLOAT_GATE = Gate()
INT8_GATE = Gate(min_agreement=0.99, max_miou_drop=0.003, max_connectivity_drop=0.005)
"""Less than for fp32: every pixel on the border of a mask hangs on the last bits."""


def gate_for(
    precision: str,
    *,
    min_agreement: float | None = None,
    max_miou_drop: float | None = None,
    min_miou: float | None = None,
    max_connectivity_drop: float | None = None,
) -> Gate:
    """The gate of a precision, with what a user wants otherwise; shares of 1."""
    usual = INT8_GATE if precision == "int8" else FLOAT_GATE
    return Gate(
        usual.min_agreement if min_agreement is None else min_agreement,
        usual.max_miou_drop if max_miou_drop is None else max_miou_drop,
        min_miou,
        usual.max_connectivity_drop if max_connectivity_drop is None else max_connectivity_drop,
    )


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
    """An artifact beside its reference over a data set; None = not measured.

    `connectivity_loss` is the reference's connectivity minus the artifact's, with its interval over the pictures.
    """

    name: str
    agreement: AgreementScores
    scores: QualityScores | None
    reference: QualityScores | None
    failures: tuple[str, ...]
    worst: tuple[Compared, ...] = field(repr=False)
    connectivity_loss: Interval | None = None

    @property
    def passed(self) -> bool:
        """Whether every gate was reached."""
        return not self.failures


@dataclass(frozen=True)
class Lane:
    """The loaded models of one thread; lanes run side by side, each on its own pictures.

    Several lanes of few CPU threads each get more out of a machine than one lane of many, because decoding and
    measuring of one picture overlap with the inference of another.
    """

    reference: Predictor
    artifacts: tuple[tuple[str, Predictor], ...]

    def close(self) -> None:
        """Give back what the runtimes hold."""
        self.reference.close()
        for _, predictor in self.artifacts:
            predictor.close()


def plan_lanes(threads: int = 0) -> tuple[int, int]:
    """How many lanes, and how many CPU threads for the runtimes of each, for `threads` cores (0: all that there are)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = threads or available
    lanes = min(4, cores)
    return lanes, max(1, cores // lanes)


def compare(
    read: Callable[[int], Sample],
    count: int,
    lanes: Sequence[Lane],
    *,
    gates: Sequence[Gate],
    keep_worst: int = 0,
    step: Callable[[], None] = lambda: None,
    remembered: Remembered | None = None,
) -> list[Comparison]:
    """Run reference and artifacts over pictures.

    Args:
        read: Picture number to picture; called from several threads.
        count: How many pictures there are.
        lanes: The same models, loaded once for each thread.
        gates: What has to be reached, one an artifact.
        keep_worst: How many pictures to keep of each artifact: those with most flipped pixels, then lowest mIoU.
        step: Called after each picture, for a progress bar.
        remembered: What the same reference made of the same pictures before; completed by what it makes now.

    Returns:
        One comparison an artifact, in their order. Sums are made in the order of the pictures, so they do not depend
        on how the threads ran.
    """
    free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def work(index: int) -> list[_Judged]:
        sample = read(index)
        lane = free.get()
        try:
            return _judge(index, sample, lane, remembered or Remembered(0))
        finally:
            free.put(lane)

    classes = max(2, lanes[0].reference.spec.output_channels, len(lanes[0].reference.spec.classes))
    tallies = [_Tally(name, classes, keep_worst) for name, _ in lanes[0].artifacts]
    # One thread more than lanes: it decodes while the others infer.
    for judged in ahead(work, range(count), threads=len(lanes) + 1):
        for tally, one in zip(tallies, judged, strict=True):
            tally.add(one)
        step()
    return [tally.comparison(gate) for tally, gate in zip(tallies, gates, strict=True)]


@dataclass(frozen=True)
class _Judged:
    """Everything counted for one artifact on one picture."""

    compared: Compared
    agreement: ImageAgreement
    quality: ImageQuality | None
    reference: ImageQuality | None


def _judge(index: int, sample: Sample, lane: Lane, remembered: Remembered) -> list[_Judged]:
    size = sample.image.shape[:2]
    classes = max(2, lane.reference.spec.output_channels, len(lane.reference.spec.classes))
    tensor = lane.reference.prepare(sample.image)
    truth = sample.mask
    before = remembered.get(index)
    if before is not None:
        reference, of_reference = before
    else:
        reference = lane.reference.finish(lane.reference.infer(tensor), *size)
        of_reference = measure(sample.name, truth, reference, classes) if truth is not None else None
        remembered.keep(index, reference, of_reference)
    judged = []
    bytewise: tuple[Array, ImageQuality | None] | None = None  # what the reference makes of a frame of bytes
    whole = (reference, of_reference)
    for _, predictor in lane.artifacts:
        same = predictor.takes_the_input_of(lane.reference)
        mask = predictor.finish(predictor.infer(tensor if same else predictor.prepare(sample.image)), *size)
        reference, of_reference = whole
        if predictor.spec.input_dtype == "uint8" != lane.reference.spec.input_dtype:
            if bytewise is None:
                base = lane.reference.mask_of_frame(sample.image, predictor.spec)
                bytewise = base, measure(sample.name, truth, base, classes) if truth is not None else None
            reference, of_reference = bytewise
        agreement = agree(sample.name, reference, mask, classes)
        quality = of_reference
        if truth is not None and agreement.flipped_share:
            # Equal masks have equal scores, and most masks are equal: measuring those twice would double the cost.
            quality = measure(sample.name, truth, mask, classes)
        miou = quality.miou if quality is not None else None
        compared = Compared(sample, reference, mask, agreement.flipped_share, miou)
        judged.append(_Judged(compared, agreement, quality, of_reference))
    return judged


class _Tally:
    """What is summed up for one artifact."""

    def __init__(self, name: str, classes: int, keep_worst: int) -> None:
        self._name = name
        self._agreement = Agreement(classes)
        self._quality = Quality(classes)
        self._reference = Quality(classes)
        self._keep = keep_worst
        self._worst: list[tuple[float, float, int, Compared]] = []
        self._seen = 0
        self._connectivity: list[tuple[float, float]] = []

    def add(self, judged: _Judged) -> None:
        self._agreement.add(judged.agreement)
        if judged.quality is not None and judged.reference is not None:
            self._quality.add(judged.quality)
            self._reference.add(judged.reference)
            if judged.reference.connectivity is not None and judged.quality.connectivity is not None:
                self._connectivity.append((judged.reference.connectivity, judged.quality.connectivity))
        self._seen += 1
        rank = (judged.compared.flipped_share, -(judged.compared.miou or 0.0), -self._seen)
        if len(self._worst) < self._keep:
            heapq.heappush(self._worst, (*rank, judged.compared))
        elif self._keep:
            heapq.heappushpop(self._worst, (*rank, judged.compared))

    def comparison(self, gate: Gate) -> Comparison:
        agreement = self._agreement.scores()
        assert agreement is not None, "a data set has at least one picture"
        scores, reference = self._quality.scores(), self._reference.scores()
        worst = tuple(entry[-1] for entry in sorted(self._worst, key=lambda entry: entry[:3], reverse=True))
        lost = paired_loss(self._connectivity)
        failures = missed(gate, agreement, scores, reference, lost)
        return Comparison(self._name, agreement, scores, reference, failures, worst, lost)


def missed(
    gate: Gate,
    agreement: AgreementScores,
    scores: QualityScores | None,
    reference: QualityScores | None,
    lost: Interval | None,
) -> tuple[str, ...]:
    """The gates that were missed, as sentences with the figures. A NaN never passes."""
    missed = []
    agreed = 1 - agreement.flipped_share
    if not agreed >= gate.min_agreement:
        missed.append(
            f"{100 * agreed:.3f} % of the pixels agree with the reference, the gate is {_pct(gate.min_agreement)}"
        )
    if agreement.collapsed:
        half = ""
        if scores is not None:
            half = f"; mIoU {scores.miou:.3f} is about half the accuracy {scores.accuracy:.3f}, as of one class alone"
        missed.append(
            f"the masks have collapsed: {_pct(round(agreement.commonest_share, 4))} of the pixels are one class, "
            f"{_pct(round(agreement.reference_commonest_share, 4))} in the reference{half}"
        )
    if agreement.constant:
        missed.append(
            "the reference's masks are one class everywhere, so agreement proves nothing: check colour order, mean and std"
        )
    if scores is not None and reference is not None:
        drop = reference.miou - scores.miou
        if not drop <= gate.max_miou_drop:
            missed.append(f"mIoU fell by {100 * drop:.2f} points, the gate is {100 * gate.max_miou_drop:.2f}")
    allowed = gate.max_connectivity_drop
    if allowed is not None and lost is not None and not lost.low <= allowed:
        missed.append(
            f"connectivity fell by {100 * lost.value:.2f} points [{100 * lost.low:.2f} … {100 * lost.high:.2f}], "
            f"the gate is {100 * allowed:.2f}"
        )
    if gate.min_miou is not None:
        if scores is None:
            missed.append("a mIoU is asked for, but the pictures have no ground-truth masks")
        elif not scores.miou >= gate.min_miou:
            missed.append(f"mIoU is {scores.miou:.4f}, the gate is {gate.min_miou:.4f}")
    return tuple(missed)


def _pct(share: float) -> str:
    return f"{100 * share:.6g} %"
