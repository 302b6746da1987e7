"""Exact rewrites of a graph: which there are, which a target profits from, and applying them in order.

A rewrite is one file in `edgeseg/graph/rewrites/`; its file name is its name. Each looks for a pattern, checks every
condition under which it is exact, and leaves alone what it does not know. Exact means: equal in real arithmetic, so that
floating point differs by rounding only; parity with the unmodified reference is checked on every artifact all the same.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core import plugins
from edgeseg.core.errors import unknown
from edgeseg.core.spec import ModelSpec
from edgeseg.graph.net import Net

if TYPE_CHECKING:
    import onnx

PACKAGE = "edgeseg.graph.rewrites"

ANY = "any"
"""Name of the target that stands for all backends: what is quantised once, for all of them."""

HEADS = ("difference-head",)
"""Rewrites after which logits are others, with the same masks and probabilities."""

BLOCKS = {"avx512f": 16, "avx2": 8, "avx": 8}
"""Instruction set to the channels that ONNX Runtime's blocked layout (NCHWc) keeps together."""


@dataclass(frozen=True)
class Target:
    """For whom a graph is rewritten.

    Attributes:
        backend: Name of the backend, or `ANY`.
        precision: ``fp32``, ``fp16`` or ``int8``.
        block: Channels that the blocked layout of the CPU's convolutions keeps together.
    """

    backend: str
    precision: str = "fp32"
    block: int = 8

    @property
    def name(self) -> str:
        """``<backend>-<precision>``, as artifacts are called."""
        return f"{self.backend}-{self.precision}"


@dataclass(frozen=True)
class Rewrite:
    """One kind of rewrite; every module of `edgeseg/graph/rewrites/` has one as `REWRITE`.

    Attributes:
        order: Rewrites run from the lowest to the highest.
        pays: Patterns of target names (``onnx-fp*``) for which it was measured to be faster.
        apply: Changes a net for a target; returns how many places it changed.
        carries: Whether every value that is still there keeps its name and what it holds (but for more channels of
            zeros), and every convolution its weights (but for their order). Then scales that were chosen before hold on,
            and each runtime may have the rewrite to itself, behind the one calibration for all.
    """

    order: int
    pays: tuple[str, ...]
    apply: Callable[[Net, Target], int]
    carries: bool = False

    def suits(self, target: Target) -> bool:
        """Whether the target profits."""
        return any(fnmatch.fnmatch(target.name, pattern) for pattern in self.pays)


@dataclass(frozen=True)
class Rewritten:
    """What came of a graph.

    Attributes:
        model: The new graph.
        applied: Names of the rewrites that changed something, with the number of places: ``unshuffle x3``.
    """

    model: onnx.ModelProto
    applied: tuple[str, ...]


def names() -> list[str]:
    """All rewrites, in the order in which they run."""
    return sorted(plugins.names(PACKAGE), key=lambda name: (load(name).order, name))


def load(name: str) -> Rewrite:
    """One rewrite.

    Raises:
        EdgesegError: There is none of that name; the known ones are listed.
    """
    known = plugins.names(PACKAGE)
    if name not in known:
        raise unknown("rewrite", name, known)
    rewrite: Rewrite = plugins.load(PACKAGE, name).REWRITE
    return rewrite


def suited(target: Target) -> tuple[str, ...]:
    """The rewrites that a target profits from by what was measured, in their order."""
    return tuple(name for name in names() if load(name).suits(target))


def halves(chosen: Sequence[str] | None, shared: Target, own: Target) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is done to a network that is quantised: before the calibration for all runtimes, and behind it for one.

    Args:
        chosen: Names of rewrites; None for those that suit the targets.
        shared: What is calibrated.
        own: The one runtime.
    """
    before, behind = (suited(shared), suited(own)) if chosen is None else (tuple(chosen), tuple(chosen))
    return (
        tuple(name for name in before if not load(name).carries),
        tuple(name for name in behind if load(name).carries),
    )


def rewrite(
    model: onnx.ModelProto,
    spec: ModelSpec,
    target: Target,
    chosen: Sequence[str] | None = None,
    *,
    without: Sequence[str] = (),
) -> Rewritten:
    """Rewrite a graph for a target.

    Args:
        model: Static shapes, cleaned with `edgeseg.graph.simplify`; it is not changed.
        spec: The spec of `model`.
        target: For whom.
        chosen: Names of rewrites, in any order; None for those that suit the target.
        without: Names of rewrites to leave out of them.

    Returns:
        The new graph with the same inputs and outputs. A graph with control flow or functions of its own is returned as
        it is: its inner graphs may read any value.

    Raises:
        EdgesegError: A name in `chosen` is no rewrite.
    """
    wanted = {name for name in (suited(target) if chosen is None else chosen) if name not in without}
    for name in wanted:
        load(name)
    if model.functions or any(_has_graph(node) for node in model.graph.node):
        return Rewritten(model, ())
    net = Net(model, spec)
    applied = []
    for name in names():
        if name in wanted and (count := load(name).apply(net, target)):
            net.refresh()
            applied.append(f"{name} x{count}" if count > 1 else name)
    if not applied:
        return Rewritten(model, ())
    return Rewritten(net.model(), tuple(applied))


def _has_graph(node: onnx.NodeProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


@functools.cache
def block_of_this_cpu() -> int:
    """Channels of one block on this machine; 8 where the instruction set is not known."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return 8
    return next((block for flag, block in BLOCKS.items() if flag in flags), 8)
