"""What exporters spell out in several nodes, put back into one: exact, on ONNX level, before anything is lowered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeseg.backends.tflite.prepare import Graph, Node
from edgeseg.core.arrays import Array

Pattern = Callable[["_View", Node], None]


def apply(graph: Graph) -> None:
    """Rewrite `graph.nodes` and `graph.constants` in place."""
    for pattern in (_affine_into_conv, _gelu, _hard_swish):
        _View(graph).each(pattern)


class _View:
    """Look-ups in a graph while one pattern runs over it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.readers = graph.consumers()
        self.replaced: dict[int, Node | None] = {}

    def each(self, pattern: Pattern) -> None:
        for node in list(self.graph.nodes):
            if id(node) not in self.replaced:
                pattern(self, node)
        self.graph.nodes[:] = [
            new for node in self.graph.nodes if (new := self.replaced.get(id(node), node)) is not None
        ]

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads a value which is no output of the graph."""
        readers = self.readers.get(name, [])
        if len(readers) != 1 or name in self.graph.outputs or id(readers[0]) in self.replaced:
            return None
        return readers[0]

    def producer(self, name: str, op: str) -> Node | None:
        """The node of this kind that makes a value."""
        node = self.producers.get(name)
        return node if node is not None and node.op == op and id(node) not in self.replaced else None

    def constant(self, name: str) -> Array | None:
        """A constant's content, be it an initializer or a Constant node."""
        if name in self.graph.constants:
            return self.graph.constants[name]
        node = self.producers.get(name)
        if node is not None and node.op == "Identity":
            return self.constant(node.inputs[0])
        if node is not None and node.op == "Constant" and "value" in node.attributes:
            return np.asarray(node.attributes["value"])
        return None

    def is_number(self, name: str, number: float, tolerance: float = 1e-5) -> bool:
        """Whether a value is this one number."""
        data = self.constant(name)
        return data is not None and data.size == 1 and abs(float(data.reshape(-1)[0]) - number) <= tolerance


def _affine_into_conv(view: _View, node: Node) -> None:
    """Batch norm and per-channel Mul or Add after a convolution become its weights and bias."""
    if node.op not in ("Conv", "ConvTranspose") or (node.op == "ConvTranspose" and node.get("group", 1) != 1):
        return
    weights = view.constant(node.inputs[1])
    has_bias = len(node.inputs) > 2 and bool(node.inputs[2])
    bias = view.constant(node.inputs[2]) if has_bias else None
    if weights is None or weights.dtype != np.float32 or (has_bias and bias is None):
        return
    out_axis = 0 if node.op == "Conv" else 1
    channels = weights.shape[out_axis]
    along = [channels if axis == out_axis else 1 for axis in range(weights.ndim)]
    factor = np.ones(channels)
    shift = np.zeros(channels) if bias is None else bias.astype(np.float64)
    last = node
    while (after := view.only_reader(last.outputs[0])) is not None:
        change = _affine(view, after, last.outputs[0], channels, weights.ndim)
        if change is None:
            break
        factor, shift = factor * change[0], shift * change[0] + change[1]
        view.replaced[id(last)] = None
        last = after
    if last is node:
        return
    names = [f"{last.outputs[0]}/weights", f"{last.outputs[0]}/bias"]
    view.graph.constants[names[0]] = (weights * factor.reshape(along)).astype(np.float32)
    view.graph.constants[names[1]] = shift.astype(np.float32)
    view.replaced[id(last)] = replace(node, inputs=(node.inputs[0], *names), outputs=(last.outputs[0],))


def _affine(view: _View, node: Node, name: str, channels: int, rank: int) -> tuple[Array, Array] | None:
    """A node as ``x * factor + shift`` per channel, if that is what it is."""
    if node.op == "BatchNormalization" and node.inputs[0] == name and not node.get("training_mode", 0):
        if len([output for output in node.outputs if output]) > 1:
            return None
        found = [view.constant(item) for item in node.inputs[1:5]]
        if any(item is None for item in found):
            return None
        scale, offset, mean, variance = (np.asarray(item, np.float64) for item in found)
        factor = scale / np.sqrt(variance + float(node.get("epsilon", 1e-5)))
        return factor, offset - mean * factor
    if node.op in ("Mul", "Add", "Sub") and node.inputs[0] != node.inputs[1]:
        other = node.inputs[1] if node.inputs[0] == name else node.inputs[0]
        if node.op == "Sub" and node.inputs[0] != name:
            return None
        data = view.constant(other)
        if data is None or data.dtype != np.float32:
            return None
        full = (1,) * (rank - data.ndim) + data.shape
        if data.ndim > rank or any(size != 1 for axis, size in enumerate(full) if axis != 1):
            return None
        if full[1] not in (1, channels):
            return None
        per_channel = np.broadcast_to(data.reshape(-1).astype(np.float64), (channels,))
        if node.op == "Mul":
            return per_channel, np.zeros(channels)
        return np.ones(channels), per_channel if node.op == "Add" else -per_channel
    return None


def _gelu(view: _View, node: Node) -> None:
    """x * 0.5 * (1 + erf(x / sqrt 2)), with the 0.5 wherever exporters put it."""
    if node.op != "Erf":
        return
    inner = view.producer(node.inputs[0], "Div") or view.producer(node.inputs[0], "Mul")
    if inner is None:
        return
    root = math.sqrt(2.0) if inner.op == "Div" else math.sqrt(0.5)
    if view.is_number(inner.inputs[1], root):
        x = inner.inputs[0]
    elif inner.op == "Mul" and view.is_number(inner.inputs[0], root):
        x = inner.inputs[1]
    else:
        return
    plus = view.only_reader(node.outputs[0])
    if plus is None or plus.op != "Add" or not any(view.is_number(name, 1.0) for name in plus.inputs):
        return
    times = view.only_reader(plus.outputs[0])
    if times is None or times.op != "Mul":
        return
    factor = next((name for name in times.inputs if name != plus.outputs[0]), "")
    chain = [node, plus]
    half = view.producer(factor, "Mul")
    if half is not None and x in half.inputs and any(view.is_number(name, 0.5) for name in half.inputs):
        last = times
        if view.only_reader(half.outputs[0]) is times:
            chain.append(half)
    else:
        after = view.only_reader(times.outputs[0])
        wanted = (factor == x, 0.5) if factor == x else (view.is_number(factor, 0.5), None)
        if after is None or after.op != "Mul" or not wanted[0]:
            return
        rest = next((name for name in after.inputs if name != times.outputs[0]), "")
        if not (view.is_number(rest, 0.5) if wanted[1] else rest == x):
            return
        chain.append(times)
        last = after
    if view.only_reader(inner.outputs[0]) is node:
        chain.append(inner)
    for gone in chain:
        view.replaced[id(gone)] = None
    view.replaced[id(last)] = replace(last, op="Gelu", inputs=(x,), attributes={})


def _hard_swish(view: _View, node: Node) -> None:
    """x * HardSigmoid(x, 1/6, 1/2)."""
    if node.op != "Mul":
        return
    for place in (0, 1):
        gate = view.producer(node.inputs[place], "HardSigmoid")
        if gate is None or gate.inputs[0] != node.inputs[1 - place]:
            continue
        if abs(gate.get("alpha", 0.2) - 1 / 6) > 1e-6 or abs(gate.get("beta", 0.5) - 0.5) > 1e-6:
            continue
        if view.only_reader(gate.outputs[0]) is node:
            view.replaced[id(gate)] = None
        view.replaced[id(node)] = replace(node, op="HardSwish", inputs=(gate.inputs[0],), attributes={})
        return
