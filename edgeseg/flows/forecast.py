"""How long artifacts would take on Raspberry Pis, without one: `edgeseg.forecast` over what their files ask of a processor.

A `Forecast` is no measurement. It is never written among results, so no table of latencies, plot, comparison or choice can
take it for one; measurements of a board found among results correct its forecasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeseg import backends
from edgeseg.core.backend import Work
from edgeseg.core.errors import ArtifactError, EdgesegError
from edgeseg.core.manifest import Artifact
from edgeseg.flows.bench import latest, results
from edgeseg.flows.bench.crew import Mate
from edgeseg.flows.bench.latest import Latest
from edgeseg.flows.bench.variants import find, variants
from edgeseg.forecast import boards, interval, roofline
from edgeseg.forecast.boards import Board
from edgeseg.forecast.interval import Band, Ratio
from edgeseg.forecast.roofline import Cost

_HINT = "INFERENCE_PRECISION_HINT"
"""Runtime option of OpenVINO artifacts that have to be computed in one precision."""


@dataclass(frozen=True)
class ForecastRequest:
    """What to forecast.

    Attributes:
        artifacts: Their folders; empty: all below `exports`.
        threads: CPU threads; each artifact is forecast with each.
        exports: Where all artifacts are looked for when none is named, and those that results are of.
        results: Where measurements of boards may be.
    """

    artifacts: tuple[Path, ...] = ()
    threads: tuple[int, ...] = (1,)
    exports: Path = Path("exports")
    results: Path = Path("bench/results")


@dataclass(frozen=True)
class Forecast:
    """The forecast for one artifact on one board; milliseconds of the network alone, and a 95 % interval.

    Attributes:
        artifact: Its name.
        threads: CPU threads.
        board: Name of the board.
        core: Type of its cores.
        executes: The precision that most multiply-accumulates are computed in there.
        macs: Multiply-accumulates of a run.
        bytes: That a run reads and writes.
        forecast_ms: The forecast.
        forecast_low_ms: Lower end of the interval.
        forecast_high_ms: Upper end.
        memory_share: Share of the time for which memory is the limit, not the core.
        costs: What each kind of kernel takes, without the correction by measurements.
        measurements: How many measurements of the board correct it; 0: none, it rests on public figures.
        sessions: The sessions that those are from.
        correction: What they multiply the forecast with.
    """

    artifact: str
    threads: int
    board: str
    core: str
    executes: str
    macs: int
    bytes: int
    forecast_ms: float
    forecast_low_ms: float
    forecast_high_ms: float
    memory_share: float
    costs: tuple[Cost, ...]
    measurements: int
    sessions: tuple[str, ...]
    correction: float
    kind: Literal["forecast"] = "forecast"

    @property
    def calibrated(self) -> bool:
        """Whether measurements of the board correct it."""
        return self.measurements > 0


@dataclass(frozen=True)
class ForecastResult:
    """All forecasts, by artifact, then by board.

    Attributes:
        forecasts: They.
        boards: The boards, with what they can give at most.
        unused: Why measurements of a board were not used, in sentences.
    """

    forecasts: tuple[Forecast, ...]
    boards: tuple[Board, ...]
    unused: tuple[str, ...]


def forecast(
    request: ForecastRequest, *, progress: Callable[[str, float], None] = lambda what, share: None
) -> ForecastResult:
    """Forecast artifacts on all boards that are known.

    Args:
        request: What to forecast.
        progress: Told what is being done, and the share of the whole that is done.

    Raises:
        ArtifactError: There is no artifact, or one that nothing can be said of.
    """
    mates = variants(find(request.artifacts, request.exports), request.threads)
    counts = _Counts()
    for index, mate in enumerate(mates):
        progress(f"counting the work of {mate.variant.artifact}", index / len(mates))
        counts.of(mate.artifact)
    ratios, unused = _ratios(request, mates, counts)
    made = [_forecast(mate, board, counts, ratios.get(board.key, ())) for mate in mates for board in boards.BOARDS]
    return ForecastResult(tuple(made), boards.BOARDS, unused)


class _Counts:
    """The work of artifacts, each counted once."""

    def __init__(self) -> None:
        self._known: dict[Path, list[Work]] = {}

    def of(self, artifact: Artifact) -> list[Work]:
        if artifact.folder not in self._known:
            document = artifact.manifest
            backend = backends.load(document.backend)
            work = backend.work(artifact.model_file, document.spec, document.runtime_options)
            if not any(one.macs for one in work):
                raise ArtifactError(
                    f"{artifact.name} multiplies nothing, so that nothing can be forecast of it", "name other artifacts"
                )
            self._known[artifact.folder] = work
        return self._known[artifact.folder]


def precisions(artifact: Artifact) -> tuple[str, str]:
    """What the runtime computes float layers and 8-bit layers in, on an Arm core that can.

    OpenVINO on Arm computes INT8 layers in float, and in half precision where it may and the core can. Weights that are stored in
    half precision are unpacked when ONNX Runtime or LiteRT load them.
    """
    document = artifact.manifest
    if document.backend != "openvino":
        return "f32", "i8"
    free = document.runtime_options.get(_HINT, "f16")
    return free, free


def _costs(artifact: Artifact, threads: int, board: Board, counts: _Counts) -> list[Cost]:
    return roofline.costs(counts.of(artifact), board, threads, *precisions(artifact))


def _executes(costs: Iterable[Cost]) -> str:
    found: dict[str, int] = {}
    for cost in costs:
        found[cost.executes] = found.get(cost.executes, 0) + cost.macs
    return max(found, key=lambda name: found[name])


def _forecast(mate: Mate, board: Board, counts: _Counts, ratios: Sequence[Ratio]) -> Forecast:
    costs = _costs(mate.artifact, mate.variant.threads, board, counts)
    executes = _executes(costs)
    seconds = sum(cost.seconds for cost in costs)
    band: Band = interval.band(board.key, f"{mate.variant.backend} {executes}", ratios)
    return Forecast(
        artifact=mate.variant.artifact,
        threads=mate.variant.threads,
        board=board.name,
        core=board.core,
        executes=executes,
        macs=sum(cost.macs for cost in costs),
        bytes=sum(cost.bytes for cost in costs),
        forecast_ms=1e3 * seconds * band.factor,
        forecast_low_ms=1e3 * seconds * band.low,
        forecast_high_ms=1e3 * seconds * band.high,
        memory_share=sum(cost.memory_seconds for cost in costs) / seconds,
        costs=tuple(costs),
        measurements=len(band.used),
        sessions=tuple(dict.fromkeys(one.session for one in band.used)),
        correction=band.factor,
    )


def _ratios(
    request: ForecastRequest, mates: Sequence[Mate], counts: _Counts
) -> tuple[dict[str, list[Ratio]], tuple[str, ...]]:
    """Measured against forecast time of everything that was measured on a board; by board, and what could not be used."""
    rows = _measured(request.results)
    if not rows:
        return {}, ()
    known = {mate.variant.sha256: mate.artifact for mate in [*_all(request.exports), *mates]}
    found: dict[str, list[Ratio]] = {}
    unused = []
    for board, one in rows:
        variant = one.row.variant
        artifact = known.get(variant.sha256)
        if artifact is None:
            unused.append(f"{variant.key} in {one.recording.path}: there is no such artifact in {request.exports}")
            continue
        assert one.row.latency is not None
        costs = _costs(artifact, variant.threads, board, counts)
        value = one.row.latency.median_ns / 1e9 / sum(cost.seconds for cost in costs)
        kind = f"{variant.backend} {_executes(costs)}"
        found.setdefault(board.key, []).append(Ratio(value, kind, one.summary.session.id, variant.key))
    return found, tuple(unused)


def _measured(place: Path) -> list[tuple[Board, Latest]]:
    """The newest measurement of each variant on each board that is forecast; none of an emulator, none that was throttled."""
    try:
        results.files(place)
    except EdgesegError:
        return []  # nothing was measured yet
    found = []
    for one in latest.read([place]).rows:
        session, row = one.summary.session, one.row
        board = boards.recognise(session.hello.device)
        throttled = any(label.name == "throttled" for label in row.labels)
        usable = row.latency is not None and row.failure is None and not throttled
        if board is not None and usable and not session.emulated and not row.variant.accelerator:
            found.append((board, one))
    return found


def _all(exports: Path) -> list[Mate]:
    """Every artifact that is there; one that is damaged is left out."""
    found = []
    for manifest_file in sorted(exports.glob("*/*/manifest.json")):
        try:
            found += variants(find([manifest_file.parent], exports), (1,))
        except EdgesegError:
            continue
    return found
