"""From a session's records to one row a variant: what tables, report, comparison and choice are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeseg.flows.bench import integers
from edgeseg.flows.bench.results import Accuracy, Cold, End, Failure, Recording, Round, Session, Sustained, Variant
from edgeseg.metrics import latency as statistics
from edgeseg.metrics.latency import Interval, Latency
from edgeseg.metrics.quality import AgreementScores, QualityScores
from edgeseg.metrics.stability import Flags, Label, check, throttle_labels


@dataclass(frozen=True)
class Row:
    """One variant; None = not measured.

    Attributes:
        variant: What it is.
        latency: Of the network alone.
        prepare_ns: Median of pre-processing.
        finish_ns: Median of post-processing.
        ratio: Latency against the baseline's, paired by rounds; None for the baseline itself.
        verdict: ``baseline``, ``faster``, ``slower``, ``cannot tell``, or ``emulated``: no time of it means anything.
        cold: The fresh process.
        scores: Against the ground truth.
        agreement: With the reference.
        miou: Dataset mIoU with its interval.
        miou_loss: The reference's dataset mIoU minus this one, with its interval, paired by pictures.
        labels: What is doubtful.
        failure: Why it was not measured, or not to the end.
        sustained: The long run.
        rounds: Samples in ns, by round.
        resampled: The same samples by load, if there are enough loads; otherwise by round.
    """

    variant: Variant
    latency: Latency | None
    prepare_ns: float | None
    finish_ns: float | None
    ratio: Interval | None
    verdict: str
    cold: Cold | None
    scores: QualityScores | None
    agreement: AgreementScores | None
    miou: Interval | None
    miou_loss: Interval | None
    labels: tuple[Label, ...]
    failure: Failure | None
    sustained: tuple[Sustained, ...]
    rounds: tuple[tuple[int, ...], ...]
    resampled: tuple[tuple[int, ...], ...]

    @property
    def state(self) -> str:
        """``✓`` measured, ``!`` measured with doubts, ``✗`` failed."""
        if self.failure is not None:
            return "✗"
        return "!" if any(label.doubtful for label in self.labels) else "✓"

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """Names of the labels that a table shows: doubts, and INT8 that is none."""
        return tuple(label.name for label in self.labels if label.doubtful or label.name in integers.NAMES)

    @property
    def executed(self) -> str:
        """What is really executed: of an INT8 artifact the share of its multiply-accumulates in integers, unless the
        runtime says on the device that it computes in floats; of others the types that the runtime tells, the one
        of most operations first.
        """
        counts = dict(self.cold.loaded.executed) if self.cold else {}
        for bookkeeping in ("i32", "i64", "u64", "undefined", "boolean"):
            counts.pop(bookkeeping, None)
        share = self.variant.integer_mac_share
        if share is not None and (not counts or integers.any_integer(counts)):
            return f"int8 {100 * share:.0f} %"
        return ", ".join(sorted(counts, key=lambda name: -counts[name]))

    @property
    def sustained_ratio(self) -> float | None:
        """The last stretch of the long run against its first."""
        if len(self.sustained) < 2:
            return None
        return self.sustained[-1].median_ns / self.sustained[0].median_ns

    @property
    def total_ns(self) -> float | None:
        """Medians of pre-processing, network and post-processing together."""
        if self.latency is None or self.prepare_ns is None or self.finish_ns is None:
            return None
        return self.latency.median_ns + self.prepare_ns + self.finish_ns


@dataclass(frozen=True)
class Summary:
    """A session as rows, in the order of its variants."""

    session: Session
    rows: tuple[Row, ...]
    reference: QualityScores | None
    stopped: str
    flips: tuple[str, ...]
    """Sentences: rankings that the long run turned round."""


def summarize(recording: Recording) -> Summary:
    """Make the rows of a session; those of an emulator have no latency, whatever was recorded."""
    session = recording.session
    ends = recording.of(End)
    stopped = ends[-1].why if ends else "interrupted"
    rounds = _rounds(recording)
    reference = next((one.scores for one in recording.of(Accuracy, "reference")), None)
    accuracy = {one.item: one for one in recording.of(Accuracy)}
    rows = tuple(_row(recording, variant, rounds, accuracy, stopped) for variant in session.variants)
    if stopped == "connection lost":
        rows = tuple(_lost(row) for row in rows)
    return Summary(session, rows, reference, stopped, flips(rows))


def _rounds(recording: Recording) -> dict[str, dict[int, Round]]:
    """Rounds by variant and number; a resumed session goes on counting, so numbers are unique."""
    found: dict[str, dict[int, Round]] = {variant.key: {} for variant in recording.session.variants}
    for one in recording.of(Round):
        if one.slice.item in found and one.slice.infer_ns:
            found[one.slice.item][one.number] = one
    return found


def round_medians(rounds: dict[int, Round]) -> dict[int, float]:
    """The median run of each round, in ns."""
    return {number: float(np.median(one.slice.infer_ns)) for number, one in sorted(rounds.items())}


def ratio_to(rounds: dict[int, Round], baseline: dict[int, Round]) -> Interval | None:
    """The paired ratio over the rounds that both have."""
    ours, theirs = round_medians(rounds), round_medians(baseline)
    both = sorted(ours.keys() & theirs.keys())
    return statistics.paired_ratio(
        [ours[number] for number in both],
        [theirs[number] for number in both],
        [rounds[number].load for number in both],
    )


def resampled(rounds: Sequence[Round]) -> tuple[tuple[int, ...], ...]:
    """Samples in the units that are resampled: loads if there are enough, otherwise rounds."""
    loads: dict[int, list[int]] = {}
    for one in rounds:
        loads.setdefault(one.load, []).extend(one.slice.infer_ns)
    if len(loads) >= statistics.MIN_LOADS:
        return tuple(map(tuple, loads.values()))
    return tuple(one.slice.infer_ns for one in rounds)


def _row(
    recording: Recording,
    variant: Variant,
    rounds: dict[str, dict[int, Round]],
    accuracy: dict[str, Accuracy],
    stopped: str,
) -> Row:
    session = recording.session
    slices = [one for _, one in sorted(rounds[variant.key].items())]
    own = [] if session.emulated else slices
    samples = tuple(one.slice.infer_ns for one in own)
    summary = None
    if samples:
        summary = replace(statistics.summarize(resampled(own), seed=session.seed), rounds=len(own))
    is_baseline = variant.key == session.baseline
    ratio = None if is_baseline or not own else ratio_to(rounds[variant.key], rounds.get(session.baseline, {}))
    cold = next(iter(recording.of(Cold, variant.key)), None)
    judged = accuracy.get(variant.key)
    labels = throttle_labels([one.slice.conditions for one in slices], session.hello.conditions)
    if summary is not None:
        flags = Flags(session.budget_s, variant.threads, int(session.hello.device.get("cores", "1")), stopped)
        labels += check(
            summary,
            list(round_medians(rounds[variant.key]).values()),
            [one.slice.conditions for one in own],
            flags,
            first_ns=cold.loaded.first_ns if cold else None,
            loads=len({one.load for one in own}),
        )
    plain = integers.plain_of(variant, session.variants)
    to_plain = ratio_to(rounds[variant.key], rounds[plain.key]) if plain is not None and own else None
    labels += integers.labels(variant, cold.loaded if cold else None, to_plain, variant.integer_mac_share)
    return Row(
        variant=variant,
        latency=summary,
        prepare_ns=_median([value for one in own for value in one.slice.prepare_ns]),
        finish_ns=_median([value for one in own for value in one.slice.finish_ns]),
        ratio=ratio,
        verdict=_verdict(session, is_baseline, ratio),
        cold=cold,
        scores=judged.scores if judged else None,
        agreement=judged.agreement if judged else None,
        miou=judged.miou if judged else None,
        miou_loss=judged.miou_loss if judged else None,
        labels=labels,
        failure=next(iter(recording.of(Failure, variant.key)), None),
        sustained=() if session.emulated else tuple(recording.of(Sustained, variant.key)),
        rounds=samples,
        resampled=resampled(own),
    )


def _verdict(session: Session, is_baseline: bool, ratio: Interval | None) -> str:
    if session.emulated:
        return "emulated"
    return "baseline" if is_baseline else statistics.verdict(ratio)


def _lost(row: Row) -> Row:
    """A row without a figure of a session whose device went away says so."""
    if row.latency is not None or row.failure is not None:
        return row
    return replace(row, failure=Failure(row.variant.key, "measure", "connection lost", "--resume goes on"))


def flips(rows: Sequence[Row]) -> tuple[str, ...]:
    """Pairs whose order in the first stretch of the long run is another one than in the last.

    Differences under 5 % are no order.
    """
    long = [row for row in rows if len(row.sustained) > 1]
    found = []
    for index, one in enumerate(long):
        for other in long[index + 1 :]:
            first = one.sustained[0].median_ns / other.sustained[0].median_ns
            last = one.sustained[-1].median_ns / other.sustained[-1].median_ns
            if min(abs(first - 1), abs(last - 1)) > 0.05 and (first < 1) != (last < 1):
                quick, slow = (one, other) if first < 1 else (other, one)
                found.append(
                    f"{quick.variant.key} begins faster than {slow.variant.key} and ends slower: "
                    "choose by the last minutes of the sustained run"
                )
    return tuple(found)


def _median(values: Sequence[int]) -> float | None:
    return float(np.median(values)) if values else None
