"""The parts of a graph that are quantised: layers, functions between them, and the tensors with one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeseg.core.arrays import Array
from edgeseg.quantization.scales import Scale

if TYPE_CHECKING:
    import onnx

FUNCTIONS = ("Add", "Mul", "HardSwish", "Sigmoid", "GlobalAveragePool")
"""Operators without weights that integer kernels have, or can be put together of (see `edgeseg.quantization.qdq`)."""

SWISH_FLOOR = -3.0
"""A hard swish is 0 from here down: what it alone reads needs no steps below, and where a scale begins right there, the gate
``min(x + 3, 6) / 6`` has the very integers of ``x``."""


@dataclass(frozen=True)
class Layer:
    """A convolution that can run in integers.

    Attributes:
        name: Of its output, which is what people recognise.
        node: Index of the Conv in the graph.
        source: The tensor that it reads.
        weight: Name of the weights.
        bias: Name of the bias; empty for none.
        result: The tensor that it writes, behind a folded activation.
        activation: Index of the folded Relu or Clip; None without one.
        floor: Lower end that the activation sets; minus infinity without one.
        ceiling: Upper end.
        macs: Multiply-accumulates of one run.
    """

    name: str
    node: int
    source: str
    weight: str
    bias: str
    result: str
    activation: int | None
    floor: float
    ceiling: float
    macs: int


@dataclass(frozen=True)
class Function:
    """An operator without weights whose inputs and result are quantised.

    Attributes:
        kind: Its operator, one of `FUNCTIONS`.
        node: Its index in the graph.
        inputs: The tensors that it reads.
        result: The tensor that it writes, behind a folded ReLU.
        activation: Index of the folded ReLU; None without one.
        floor: Lower end that the activation sets; minus infinity without one.
    """

    kind: str
    node: int
    inputs: tuple[str, ...]
    result: str
    activation: int | None = None
    floor: float = -math.inf


@dataclass(frozen=True)
class Group:
    """Tensors with one scale.

    Attributes:
        name: The first of them in the graph.
        tensors: All, in the graph's order.
        sources: Those that something computes, whose values the range has to hold.
        floor: The lower end that activations set for all of them; minus infinity if one has none.
        swish: Whether nothing but hard swishes reads it, so that its scale begins where they do.
        fixed: The scale, where kernels know only one.
    """

    name: str
    tensors: tuple[str, ...]
    sources: tuple[str, ...]
    floor: float
    swish: bool = False
    fixed: Scale | None = None


@dataclass(frozen=True)
class Placement:
    """What is quantised of a graph.

    Attributes:
        model: The float graph.
        layers: Convolutions that run in integers.
        functions: Operators without weights that do.
        movers: Indices of nodes that pass integers through.
        groups: The scales.
        macs: Multiply-accumulates of the whole graph, float ones included.
        weights: Content of all constants.
        shapes: Tensor to its shape.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    functions: tuple[Function, ...]
    movers: tuple[int, ...]
    groups: tuple[Group, ...]
    macs: int
    weights: Mapping[str, Array] = field(repr=False)
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)

    def group_of(self) -> dict[str, Group]:
        """Tensor to its group."""
        return {tensor: group for group in self.groups for tensor in group.tensors}
