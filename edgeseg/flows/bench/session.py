"""IoU against latency: every artifact cold, in interleaved timed rounds, and over the pictures of a data set."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeseg import devices
from edgeseg.core.arrays import Array
from edgeseg.core.device import Device, Settings
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.manifest import Artifact
from edgeseg.data.dataset import Dataset, open_dataset
from edgeseg.flows.bench import accuracy, cooling, gallery_file, judged, results, sustain, timing
from edgeseg.flows.bench.crew import Crew, Mate
from edgeseg.flows.bench.results import Cold, End, Failure, Recording, Round, Session, Sustained, Timed, Writer
from edgeseg.flows.bench.rows import Summary, summarize
from edgeseg.flows.bench.variants import baseline_of, common_reference, find, variants

FRAMES = 4
"""Pictures that the timed runs take in turn."""
WORST = 3
"""Pictures of each artifact that are kept for the report."""
RESULTS = Path("bench/results")
EMULATED = "emulated"
"""How the timing of a session on an emulator ends, which never begins."""
UNFINISHED = ("interrupted", "connection lost")
"""Ends of a session that ``--resume`` goes on with."""


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    Attributes:
        artifacts: Their folders; empty: all below ``exports``.
        device: Where.
        settings: What was asked of the device itself.
        data: Pictures for the accuracy axis, as after ``--data``; ``none``: it is not measured.
        mask_values: Coding of their masks; empty to infer it.
        threads: CPU threads; each artifact is measured with each.
        accelerators: What else each artifact is measured on.
        budget_s: Wall-clock time for the timed rounds.
        baseline: Name of an artifact or key of a variant; empty: ``onnx-fp32``, or the first.
        seed: Of the order of measuring.
        sustain_s: Length of the long run of each variant; 0: none.
        timeout_s: A worker that is silent for so long beyond what was expected is ended.
        out: Where results go.
        exports: Where all artifacts are looked for when none is named.
        resume: Go on with the last session of the same work that was not finished.
        command: The command line, for the record.
    """

    artifacts: tuple[Path, ...] = ()
    device: str = "cpu"
    settings: Settings = Settings()
    data: str = "sample"
    mask_values: str = ""
    threads: tuple[int, ...] = (1,)
    accelerators: tuple[str, ...] = ()
    budget_s: float = 60.0
    baseline: str = ""
    seed: int = 0
    sustain_s: float = 0.0
    timeout_s: float = 60.0
    out: Path = RESULTS
    exports: Path = Path("exports")
    resume: bool = False
    command: str = ""


@dataclass(frozen=True)
class BenchResult:
    """What was measured; `path` is the session's file."""

    summary: Summary
    path: Path
    seconds: float
    interrupted: bool
    unreachable: DeviceUnreachable | None = None
    """Why the device was given up in the middle."""


Progress = Callable[[str, float], None]
"""Told what is being done, and the share of the whole that is done, 0 to 1."""


def bench(
    request: BenchRequest, *, device: Device | None = None, progress: Progress = lambda what, share: None
) -> BenchResult:
    """Measure artifacts on a device.

    An artifact that crashes, hangs or answers rubbish becomes a failed row and the rest goes on. An interrupt ends the
    measuring, not the result: what was measured until then is kept and summed up.

    Args:
        request: What to measure.
        device: One that has come by itself or was gone to already, see `phones` and `several`; None: the one that the
            request names.
        progress: Told what is being done.

    Raises:
        EdgesegError: The request cannot be carried out at all.
        DeviceUnreachable: The device does not answer.
    """
    started = time.monotonic()
    artifacts = find(request.artifacts, request.exports)
    mates = variants(artifacts, request.threads, request.accelerators)
    dataset = _dataset(request, artifacts)
    with contextlib.closing(device or devices.load(request.device, request.settings)) as device:
        progress(f"asking {request.device} what it is", 0.0)
        session = _session(request, mates, dataset, device)
        return measure(session, mates, request, device, dataset, started=started, progress=progress)


def measure(
    session: Session,
    mates: Sequence[Mate],
    request: BenchRequest,
    device: Device,
    dataset: Dataset | None,
    *,
    started: float,
    progress: Progress = lambda what, share: None,
) -> BenchResult:
    """Measure a session that is prepared; see `bench`."""
    folder = request.out / session.device
    earlier = _resumable(folder, session) if request.resume else None
    results.write_device(folder, request.device, session.hello)
    writer = Writer(earlier.path if earlier else folder / f"{session.id}.jsonl")
    _writing.add(writer.path)
    if earlier is None:
        writer.write(session)
    work = _Work(session, mates, request, device, dataset, writer, earlier, progress, started)
    interrupted, unreachable = False, None
    try:
        work.run()
    except KeyboardInterrupt:
        interrupted = True
        writer.write(End("interrupted", round(time.monotonic() - started, 3)))
    except DeviceUnreachable as error:
        unreachable = error
        writer.write(End("connection lost", round(time.monotonic() - started, 3)))
    finally:
        writer.close()
        _writing.discard(writer.path)
    summary = summarize(results.read(writer.path))
    return BenchResult(summary, writer.path, time.monotonic() - started, interrupted, unreachable)


class _Work:
    """The phases of one session."""

    def __init__(
        self,
        session: Session,
        mates: Sequence[Mate],
        request: BenchRequest,
        device: Device,
        dataset: Dataset | None,
        writer: Writer,
        earlier: Recording | None,
        progress: Progress,
        started: float,
    ) -> None:
        self._session, self._request, self._dataset = session, request, dataset
        self._writer, self._earlier, self._progress, self._started = writer, earlier, progress, started
        failed = {one.item for one in earlier.of(Failure)} if earlier else set()
        self._mates = [mate for mate in mates if mate.variant.key not in failed]
        self._artifacts = list({_masks_of(mate): mate for mate in reversed(self._mates)}.values())[::-1]
        # How long each phase should take, so that one bar can tell the truth about all of them.
        self._plan = {
            "cold": 1.5 * len(self._mates),
            "timing": request.budget_s,
            "masks": 0.04 * (len(self._artifacts) + 1) * (len(dataset) if dataset else 0),
            "sustain": request.sustain_s * len(self._mates),
        }
        self._crew = Crew(device, self._mates, _frames(dataset), timeout_s=request.timeout_s, lost=writer.write)

    def run(self) -> None:
        try:
            self._cold()
            why = self._timing()
            self._sustain()
            self._masks()
            self._writer.write(End(why, round(time.monotonic() - self._started, 3)))
        finally:
            self._crew.close()

    def _share(self, phase: str, share: float) -> float:
        names = list(self._plan)
        before = sum(self._plan[name] for name in names[: names.index(phase)])
        return (before + share * self._plan[phase]) / max(1e-9, sum(self._plan.values()))

    def _cold(self) -> None:
        known = {one.item for one in self._earlier.of(Cold)} if self._earlier else set()
        for index, mate in enumerate(self._mates):
            self._progress(f"first start of {mate.variant.key}", self._share("cold", index / len(self._mates)))
            if mate.variant.key not in known:
                cold = self._crew.cold(mate, runs=1 if self._session.emulated else 3)
                if cold is not None:
                    self._writer.write(cold)

    def _timing(self) -> str:
        if self._session.emulated:  # its time is no measure of anything: one run each, to see that it runs
            for mate in self._crew.alive:
                measured = self._crew.measure(mate, runs=1, warmups=0)
                if measured is not None:
                    self._writer.write(Round(0, 0, measured))
            return EMULATED
        timed = self._earlier.of(Timed) if self._earlier else []
        if timed:
            return str(timed[-1].why)
        self._cool()
        earlier = tuple(self._earlier.of(Round)) if self._earlier else ()
        plan = timing.Plan(
            budget_s=self._request.budget_s,
            baseline=self._session.baseline,
            seed=self._session.seed,
            first=1 + max((one.number for one in earlier), default=-1),
            load=1 + max((one.load for one in earlier), default=-1),
            earlier=earlier,
        )
        why = timing.run(
            self._crew,
            plan,
            keep=self._writer.write,
            progress=lambda share: self._progress("timing in rounds", self._share("timing", share)),
        )
        self._writer.write(Timed(why))
        return why

    def _cool(self) -> None:
        limit_c = self._request.settings.cool_to_c
        if limit_c is not None and not self._session.emulated:
            cooling.wait(self._crew.conditions, limit_c, say=self._request.settings.say)

    def _sustain(self) -> None:
        if not self._request.sustain_s or self._session.emulated:
            return
        known = {one.item for one in self._earlier.of(Sustained)} if self._earlier else set()
        mates = [mate for mate in self._crew.alive if mate.variant.key not in known]
        for index, mate in enumerate(mates):

            def step(share: float, index: int = index, mate: Mate = mate) -> None:
                self._progress(f"long run of {mate.variant.key}", self._share("sustain", (index + share) / len(mates)))

            self._cool()
            sustain.run(self._crew, mate, self._request.sustain_s, keep=self._writer.write, progress=step)

    def _masks(self) -> None:
        dataset = self._dataset
        alive = {mate.variant.key for mate in self._crew.alive}
        mates = [mate for mate in self._artifacts if mate.variant.key in alive]
        if dataset is None or not mates:
            return
        reference = accuracy.load_reference(common_reference([mate.artifact for mate in self._artifacts]))

        def step(done: int) -> None:
            self._progress("masks over the pictures", self._share("masks", done / len(dataset)))

        try:
            step(0)
            found, worst = accuracy.run(
                self._crew, mates, reference, dataset,
                keep_worst=WORST, kept=self._writer.path.with_suffix(judged.SUFFIX), step=step,
            )  # fmt: skip
        finally:
            reference.close()
        same = {mate.variant.key: _masks_of(mate) for mate in self._mates}
        for record in found:
            self._writer.write(record)
            for key, masks in same.items():
                if key != record.item and masks == same.get(record.item):
                    self._writer.write(replace(record, item=key))
        gallery_file.write(self._writer.path.with_suffix(".masks.npz"), worst)


def _masks_of(mate: Mate) -> tuple[str, str]:
    """What masks depend on: the artifact and what computes it, not the number of threads."""
    return mate.variant.artifact, mate.variant.accelerator


def _dataset(request: BenchRequest, artifacts: Sequence[Artifact]) -> Dataset | None:
    if request.data == "none":
        return None
    classes = max(2, *(artifact.manifest.spec.output_channels for artifact in artifacts), 2)
    dataset = open_dataset(request.data, mask_values=request.mask_values, classes=classes)
    common_reference(artifacts)
    return dataset


def _frames(dataset: Dataset | None) -> list[Array]:
    """Pictures for the timed runs: the first of the data set, or noise of a webcam's size."""
    if dataset is None:
        random = np.random.default_rng(0)
        return [random.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(FRAMES)]
    return [sample.image for sample in dataset.head(FRAMES).stream()]


def _session(request: BenchRequest, mates: Sequence[Mate], dataset: Dataset | None, device: Device) -> Session:
    for count in request.threads:
        if count < 1:
            raise EdgesegError(f"{count} threads are no number of threads", "--threads 1,2")
    hello = device.probe()
    now = datetime.datetime.now(datetime.UTC)
    return Session(
        id=f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        started=now.isoformat(timespec="seconds"),
        command=request.command,
        device=results.device_id(request.device, hello),
        hello=hello,
        variants=tuple(mate.variant for mate in mates),
        baseline=baseline_of(mates, request.baseline),
        budget_s=request.budget_s,
        seed=request.seed,
        data=dataset.name if dataset else "",
        synthetic=bool(dataset and dataset.synthetic),
        images=len(dataset) if dataset else 0,
        emulated=hello.emulated,
    )


def _resumable(folder: Path, session: Session) -> Recording | None:
    """The newest session of the same work that did not come to its end; None: there is none, a new one is begun.

    Of two boards of one kind that are measured at once, each goes on with a session of its own.
    """
    with _claiming:
        for path in sorted(folder.glob("*.jsonl"), reverse=True):
            try:
                recording = results.read(path)
            except EdgesegError:
                continue
            finished = any(end.why not in UNFINISHED for end in recording.of(End))
            if not finished and path not in _writing and results.same_work(recording.session, session):
                _writing.add(path)
                return recording
    return None


_claiming = threading.Lock()
_writing: set[Path] = set()
"""Files that sessions of this process write to."""
