"""The bench on trial: does it cry wolf over two equal things, and does it see a twin that is a little slower?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgeseg import devices
from edgeseg.core.device import Settings
from edgeseg.core.errors import EdgesegError
from edgeseg.flows.bench.crew import Crew, Mate
from edgeseg.flows.bench.results import Failure, Round
from edgeseg.flows.bench.rows import ratio_to
from edgeseg.flows.bench.timing import Plan, run
from edgeseg.flows.bench.variants import find, variants
from edgeseg.metrics.latency import Interval, verdict

SLOWDOWNS = (1.0, 1.05, 1.2)
"""The twins; 1 is the artifact itself, loaded a second time."""
MAX_FALSE = 0.05
MIN_SEEN = 0.9


@dataclass(frozen=True)
class SelfTestRequest:
    """What to try.

    Attributes:
        artifact: Its folder; None: the first below ``exports``.
        device: Where.
        runs: How many independent sessions.
        budget_s: Time for the rounds of each.
        threads: CPU threads.
        seed: Of the order of measuring.
        slowdowns: The twins.
        settings: What was asked of the device itself.
    """

    artifact: Path | None = None
    device: str = "cpu"
    runs: int = 5
    budget_s: float = 20.0
    threads: int = 1
    seed: int = 0
    exports: Path = Path("exports")
    slowdowns: tuple[float, ...] = SLOWDOWNS
    settings: Settings = Settings()


@dataclass(frozen=True)
class Tally:
    """What the bench said about one twin, over all runs."""

    slowdown: float
    ratios: tuple[Interval, ...]
    faster: int
    slower: int
    undecided: int

    @property
    def passed(self) -> bool:
        """Equal things are told apart in at most 5 % of the runs, a slower twin is seen in at least 90 %."""
        runs = self.faster + self.slower + self.undecided
        if self.slowdown == 1:
            # With 20 runs one false alarm is what 95 % intervals promise; with fewer, one can still be chance.
            return self.faster + self.slower <= max(1, MAX_FALSE * runs)
        return self.slower >= MIN_SEEN * runs


@dataclass(frozen=True)
class SelfTestResult:
    """The tallies of all twins."""

    artifact: str
    runs: int
    tallies: tuple[Tally, ...]

    @property
    def passed(self) -> bool:
        """Whether every twin was judged as it should be."""
        return all(tally.passed for tally in self.tallies)

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        parts = []
        for tally in self.tallies:
            if tally.slowdown == 1:
                parts.append(f"cried wolf in {tally.faster + tally.slower} of {self.runs} runs")
            else:
                parts.append(f"saw a slow-down of {100 * (tally.slowdown - 1):.0f} % in {tally.slower} of {self.runs}")
        return ", ".join(parts)


def self_test(
    request: SelfTestRequest, *, progress: Callable[[str, float], None] = lambda what, share: None
) -> SelfTestResult:
    """Measure one artifact against itself and against twins that are made slower, several times.

    Each run starts its own workers, so that what a process is born with (where its memory lies) differs from run to
    run as it does between real sessions.

    Raises:
        EdgesegError: The artifact cannot be measured.
    """
    artifact = find((request.artifact,) if request.artifact else (), request.exports)[0]
    (plain,) = variants([artifact], (request.threads,))
    mates = [plain] + [_twin(plain, slowdown) for slowdown in request.slowdowns]
    ratios: dict[float, list[Interval | None]] = {slowdown: [] for slowdown in request.slowdowns}
    for number in range(request.runs):
        rounds = _rounds(request, mates, number, progress)
        for mate in mates[1:]:
            ratio = ratio_to(rounds[mate.variant.key], rounds[plain.variant.key])
            ratios[mate.variant.slowdown].append(ratio)
    return SelfTestResult(
        artifact.name, request.runs, tuple(_tally(slowdown, found) for slowdown, found in ratios.items())
    )


def _twin(mate: Mate, slowdown: float) -> Mate:
    key = f"{mate.variant.key} x{slowdown:g}"
    return replace(mate, variant=replace(mate.variant, key=key, slowdown=slowdown))


def _rounds(
    request: SelfTestRequest, mates: list[Mate], number: int, progress: Callable[[str, float], None]
) -> dict[str, dict[int, Round]]:
    rounds: dict[str, dict[int, Round]] = {mate.variant.key: {} for mate in mates}

    def lost(failure: Failure) -> None:
        raise EdgesegError(f"{failure.item} cannot be measured: {failure.reason}", failure.hint)

    def keep(one: Round) -> None:
        rounds[one.slice.item][one.number] = one

    with contextlib.closing(devices.load(request.device, request.settings)) as device:
        if device.probe().emulated:
            raise EdgesegError(f"{request.device} is an emulator: it has no times to be tested", "--device cpu")
        crew = Crew(device, mates, (), timeout_s=60.0, lost=lost)
        try:
            run(
                crew,
                Plan(request.budget_s, mates[0].variant.key, request.seed + number),
                keep=keep,
                progress=lambda share: progress(f"run {number + 1} of {request.runs}", (number + share) / request.runs),
            )
        finally:
            crew.close()
    return rounds


def _tally(slowdown: float, found: list[Interval | None]) -> Tally:
    said = [verdict(ratio) for ratio in found]
    return Tally(
        slowdown,
        tuple(ratio for ratio in found if ratio is not None),
        said.count("faster"),
        said.count("slower"),
        said.count("cannot tell"),
    )
