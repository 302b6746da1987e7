"""The protocol of a backend: one runtime, in one file or folder of `edgeseg/backends/`.

A backend module has a `BACKEND` object. `convert` runs on the host; `load` and `run` run wherever the artifact is
deployed, inside the worker, so their module is importable on Python 3.9 with numpy and the runtime alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeseg.core.errors import GraphError
from edgeseg.core.spec import ModelSpec

if TYPE_CHECKING:
    pass

from edgeseg.core.arrays import Array

PRECISIONS: tuple[str, ...] = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Conversion:
    """What `Backend.convert` wrote.

    Attributes:
        files: File names inside the folder; the first is the one that the runtime opens.
        spec: The spec as it holds for the written file (a layout may have changed).
        runtime_options: What the runtime has to be told at load time for these masks, e.g. an execution precision.
        notes: What a user should know about the file, in sentences.
    """

    files: tuple[str, ...]
    spec: ModelSpec
    runtime_options: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Executed:
    """What a runtime says that it does with a file on this machine.

    Attributes:
        macs: Multiply-accumulates of convolutions and matrix products, as the runtime runs them.
        integer_macs: Those of them that it runs in 8-bit integers.
        note: What else should be known, in a sentence.
    """

    macs: int
    integer_macs: int
    note: str = ""

    @property
    def integer_share(self) -> float:
        """Share of the multiply-accumulates in integers."""
        return self.integer_macs / self.macs if self.macs else 0.0


KERNELS = ("dense", "pointwise", "depthwise", "transposed", "matrix", "other")
"""Kinds of kernels that a processor is more or less good at; `other` moves data and multiplies nothing."""


@dataclass(frozen=True)
class Work:
    """What one operator of an artifact asks of a processor, whichever that is.

    Attributes:
        kernel: One of `KERNELS`.
        macs: Multiply-accumulates.
        weights: Numbers in its weights.
        reads: Numbers that it reads of other operators, or of the input.
        writes: Numbers that it writes.
        integer: Whether the file has it in 8-bit integers.
    """

    kernel: str
    macs: int
    weights: int
    reads: int
    writes: int
    integer: bool = False


def convolution(groups: int, channels: int, kernel: Sequence[int]) -> str:
    """The kernel of a convolution with `channels` input channels and a window of `kernel`."""
    if groups > 1 and groups == channels:
        return "depthwise"
    return "pointwise" if all(size == 1 for size in kernel) else "dense"


_QUANTISING = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv"}


def expect_quantised(model: Any) -> None:
    """Refuse to call a float graph int8.

    Args:
        model: `onnx.ModelProto`, or another tool's model, which is taken at its word.

    Raises:
        GraphError: Nothing in the graph is quantised.
    """
    graph = getattr(model, "graph", None)
    if graph is not None and not _QUANTISING & {node.op_type for node in graph.node}:
        raise GraphError("int8 is asked of a graph in which nothing is quantised", "edgeseg quantize --int8")


class Session(Protocol):
    """A loaded model. One thread uses it at a time.

    The three steps of a run are apart, because `execute` alone is what the runtimes' own tools time, and what a program
    pays that writes its pictures where the runtime reads them.
    """

    def feed(self, feeds: Mapping[str, Array]) -> None:
        """Hand over the inputs, name to array, with shapes and layouts as the spec says; they must not change until
        `execute` has returned."""
        ...

    def execute(self) -> None:
        """Infer once with what was fed last."""
        ...

    def fetch(self) -> dict[str, Array]:
        """The outputs of the last `execute`, name to array; the next one does not overwrite them."""
        ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All three steps."""
        self.feed(feeds)
        self.execute()
        return self.fetch()

    def close(self) -> None:
        """Give back what the runtime holds."""
        ...


class Backend(Protocol):
    """One runtime."""

    name: str
    precisions: tuple[str, ...]
    package: str
    """Import name of the runtime's package."""
    extra: str
    """The extra of edgeseg that installs it; empty if edgeseg always does."""

    def convert(self, model: Any, spec: ModelSpec, precision: str, out: Path) -> Conversion:
        """Write the runtime's file(s) for an ONNX model into the empty folder `out`.

        Args:
            model: `onnx.ModelProto` with static shapes, fp32 (or with Q/DQ pairs for `int8`).
            spec: The spec of `model`.
            precision: One of `precisions`; `fp16` means weights stored in half precision.
            out: An existing, empty folder.

        A backend may have more keyword parameters, each with a default, for what only it can be told.

        Raises:
            GraphError: The model cannot be lowered; every node that cannot is named.
            MissingDependency: The runtime's package is not installed.
        """
        ...

    def load(self, path: Path, spec: ModelSpec, *, threads: int, options: Mapping[str, str]) -> Session:
        """Open the first file of a `Conversion` with its `runtime_options`, for `threads` CPU threads (0: default)."""
        ...

    def executed(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> Executed:
        """Ask the runtime in which precision it multiplies, on this machine."""
        ...

    def work(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> list[Work]:
        """The operators of a file, without those that cost nothing, for a forecast of the time that they take elsewhere.

        Raises:
            ArtifactError: The file cannot be read.
        """
        ...
