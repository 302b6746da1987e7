"""Choosing rewrites by measuring them on a device: candidates are timed interleaved, and what is faster for sure is kept.

The search starts with the rewrites that suit the target and asks of each rewrite whether the other choice would be
faster. Many candidates at once make one of them look good by chance, so the best is measured a second time, against the
choice so far alone, and kept only if that run says so too.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core import records
from edgeseg.core.backend import Backend, Conversion
from edgeseg.core.device import Device
from edgeseg.core.errors import EdgesegError
from edgeseg.core.job import Item
from edgeseg.core.measurement import Slice
from edgeseg.core.spec import ModelSpec
from edgeseg.flows.candidates import Candidates
from edgeseg.graph import rewriting
from edgeseg.graph.rewriting import Target
from edgeseg.metrics.latency import MIN_LOADS, Interval, paired_ratio, verdict

if TYPE_CHECKING:
    import onnx

FILE = "tuning.json"
ROUNDS = 4
"""Rounds between two loads; all candidates are loaded `MIN_LOADS` times."""
RUNS = 3
SWEEPS = 3
"""So often all rewrites are asked again: one may pay only together with another."""
TIMEOUT_S = 120.0

Names = tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """One choice, compared in one interleaved run with another.

    Attributes:
        rewrites: The choice.
        against: What it was compared with.
        ratio: Of the latencies; below 1 is faster.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    rewrites: Names
    against: Names
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Tuning:
    """What was chosen and why; replayed with ``--rewrites FILE``.

    Attributes:
        target: Name of the target, ``onnx-fp32``.
        rewrites: The choice.
        device: What the device said of itself.
        threads: CPU threads of the runtime.
        measured: All comparisons, in their order; the last is the choice against the plain graph.
    """

    target: str
    rewrites: Names
    device: dict[str, str]
    threads: int
    measured: tuple[Measured, ...]
    schema_version: int = 1

    @property
    def against_plain(self) -> Measured:
        """The choice against the graph without rewrites."""
        return self.measured[-1]


def read(path: Path, targets: Sequence[str]) -> Names:
    """The choice in a file that `tune` wrote.

    Args:
        path: The file.
        targets: Names of the targets that it is to be replayed for.

    Raises:
        EdgesegError: It is missing or no tuning, or was made for another target.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise EdgesegError(
            f"the tuning {path} cannot be read: {error.strerror}",
            "edgeseg export --tune writes a tuning.json beside the artifact",
        ) from error
    tuning = records.from_json(Tuning, text, where=str(path))
    for target in targets:
        if target != tuning.target:
            raise EdgesegError(
                f"{path} was measured for {tuning.target}, not for {target}",
                f"--target {tuning.target.partition('-')[0]}, or tune again: --tune",
            )
    return tuning.rewrites


def tune(
    model: onnx.ModelProto,
    spec: ModelSpec,
    backend: Backend,
    precision: str,
    device: Device,
    *,
    threads: int = 1,
    without: Names = (),
    options: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Tuning:
    """Find the rewrites that are fastest on a device.

    Args:
        model: Cleaned, static shapes, fp32.
        spec: Its spec.
        backend: The runtime.
        precision: ``fp32`` or ``fp16``.
        device: Where to measure.
        threads: CPU threads of the runtime.
        without: Names of rewrites that are not to be tried.
        options: Further parameters of the backend's `convert`.
        say: Told what is being done.

    Returns:
        The choice. Without rewrites if no choice is faster than the plain graph for sure.

    Raises:
        EdgesegError: Nothing could be measured.
    """
    target = Target(backend.name, precision, rewriting.block_of_this_cpu())
    names = [name for name in rewriting.names() if name not in without]
    bench = _Bench(model, spec, backend, precision, device, target, threads, dict(options or {}), say)
    chosen: Names = tuple(name for name in rewriting.suited(target) if name in names)
    measured: list[Measured] = []
    for sweep in range(SWEEPS):
        say(f"tuning {target.name}: sweep {sweep + 1}, {'+'.join(chosen) or 'plain'}")
        others = [tuple(name for name in names if (name in chosen) != (name == turned)) for turned in names]
        measured += (found := bench.compare(chosen, others))
        better = [one for one in found if verdict(_interval(one)) == "faster"]
        again = bench.compare(chosen, [min(better, key=lambda one: one.ratio).rewrites]) if better else []
        measured += again
        if not again or verdict(_interval(again[0])) != "faster":
            break
        chosen = again[0].rewrites
    final = bench.compare((), [chosen])
    if not final or verdict(_interval(final[0])) != "faster":
        chosen = ()
        final = [*final, Measured((), (), 1.0, 1.0, 1.0)]
    return Tuning(target.name, chosen, bench.device_words, threads, (*measured, *final))


def _interval(one: Measured) -> Interval:
    return Interval(one.ratio, one.low, one.high)


@dataclass
class _Bench:
    """Converts choices and times them side by side in one worker."""

    model: onnx.ModelProto
    spec: ModelSpec
    backend: Backend
    precision: str
    device: Device
    target: Target
    threads: int
    options: dict[str, str]
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.device_words: dict[str, str] = {}

    def compare(self, base: Names, others: Sequence[Names]) -> list[Measured]:
        """The choices that give another graph than `base`, each against it."""
        graphs = {base: self._graph(base)}
        for other in others:
            graph = self._graph(other)
            if graph not in graphs.values():
                graphs[other] = graph
        if len(graphs) == 1:
            return []
        with tempfile.TemporaryDirectory(prefix="edgeseg-tune-") as folder:
            items = {}
            for index, (names, graph) in enumerate(graphs.items()):
                out = Path(folder) / str(index)
                out.mkdir()
                try:
                    items[names] = (self._item(str(index), self._converted(graph, out)), out)
                except EdgesegError:
                    if names == base:
                        raise
            medians, loads = self._timed(items)
        if base not in medians:
            raise EdgesegError(f"{self.target.name} cannot be tuned: its graph could not be measured")
        found = []
        for names, row in medians.items():
            ratio = paired_ratio(row, medians[base], loads) if names != base else None
            if ratio is not None:
                found.append(Measured(names, base, *(round(x, 4) for x in (ratio.value, ratio.low, ratio.high))))
        return found

    def _graph(self, names: Names) -> bytes:
        return rewriting.rewrite(self.model, self.spec, self.target, names).model.SerializeToString(deterministic=True)

    def _converted(self, graph: bytes, out: Path) -> Conversion:
        import onnx

        convert: Callable[..., Conversion] = self.backend.convert
        return convert(onnx.load_model_from_string(graph), self.spec, self.precision, out, **self.options)

    def _item(self, key: str, done: Conversion) -> Item:
        return Item(key, self.backend.name, done.files[0], done.spec, self.threads, dict(done.runtime_options))

    def _timed(self, items: Mapping[Names, tuple[Item, Path]]) -> tuple[dict[Names, list[float]], list[int]]:
        """Median of every slice by choice, and the load that each round belongs to; what fails is left out."""
        frame = np.random.default_rng(0).integers(0, 256, (self.spec.height, self.spec.width, 3), np.uint8)
        race = Candidates(self.device, items, [frame], timeout_s=TIMEOUT_S, say=self.say)
        medians: dict[Names, list[float]] = {names: [] for names in items}
        loads: list[int] = []
        order = random.Random(0)  # noqa: S311 - an order, not a secret
        try:
            for load in range(MIN_LOADS):
                for names in self._shuffled(race, order):
                    race.load(names)
                for _ in range(ROUNDS):
                    loads.append(load)
                    for names in self._shuffled(race, order):
                        answers = race.measure(names, RUNS)
                        if answers is not None:
                            slices = [one for one in answers if isinstance(one, Slice)]
                            medians[names].append(float(np.median(slices[0].infer_ns)))
        finally:
            self.device_words = race.device_words or self.device_words
            race.close()
        return {names: medians[names] for names in race.names}, loads

    @staticmethod
    def _shuffled(race: Candidates, order: random.Random) -> list[Names]:
        names = race.names
        order.shuffle(names)
        return names
