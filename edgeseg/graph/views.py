"""Which channels of which values a value is made of, seen through everything that only moves channels.

Split, slice, gather, concatenation and shuffles (reshape, transpose, reshape) compute nothing: a value behind them is a
*view*, a list of (source, channel) pairs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.graph.channels import is_concat
from edgeseg.graph.net import Net, Shape, attribute

if TYPE_CHECKING:
    import onnx

View = tuple[tuple[str, int], ...]
"""For each channel of a value: the value that really holds it, and its channel there."""

_LARGEST = 1 << 24
"""Elements of the index map with which a chain of reshapes is followed."""


class Views:
    """Views of all values of a net; it is not changed.

    Attributes:
        shuffles: Outputs of reshapes and transposes that turned out to permute channels.
    """

    def __init__(self, net: Net) -> None:
        self._net = net
        self._makers = net.makers()
        self._readers = net.readers()
        self._known: dict[str, View] = {}
        self.shuffles: set[str] = set()
        for node in net.nodes:
            for name in node.output:
                if net.is_image(name):
                    self.of(name)

    def of(self, name: str) -> View:
        """The view of a feature map [N, C, H, W]."""
        waiting = [name]
        while waiting:  # without recursion: shuffle networks are deep
            current = waiting[-1]
            if current in self._known:
                waiting.pop()
                continue
            node = self._makers.get(current)
            needed = self._sources(current, node)
            missing = [source for source in needed if source not in self._known]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            self._known[current] = self._through(current, node, needed)
        return self._known[name]

    def moving(self) -> set[int]:
        """Ids of the nodes that do nothing but move channels."""
        found = set()
        for node in self._net.nodes:
            made = [name for name in node.output if name]
            if all(self._net.is_image(name) and self._known[name] != self._own(name) for name in made):
                chain = self._chain(made[0], self._chain_start(made[0])) if made[0] in self.shuffles else [node]
                found |= {id(step) for step in chain}
        return found

    def _own(self, name: str) -> View:
        return tuple((name, channel) for channel in range(self._net.shapes[name][1]))

    def _sources(self, name: str, node: onnx.NodeProto | None) -> list[str]:
        """The feature maps whose views have to be known for this one's; none if it is a source itself."""
        if node is None:
            return []
        if is_concat(self._net, node):
            return list(node.input)
        if node.op_type in ("Split", "Slice", "Gather", "Identity") and self._net.is_image(node.input[0]):
            return [node.input[0]]
        if node.op_type in ("Reshape", "Transpose"):
            start = self._chain_start(name)
            return [start] if start else []
        return []

    def _through(self, name: str, node: onnx.NodeProto | None, sources: list[str]) -> View:
        if node is None or not sources:
            return self._own(name)
        if node.op_type == "Concat":
            return tuple(pair for source in sources for pair in self._known[source])
        if node.op_type in ("Reshape", "Transpose"):
            order = self._permutation(sources[0], name)
            if order is None:
                return self._own(name)
            self.shuffles.add(name)
        else:
            picked = picked_channels(self._net, node, name)
            if picked is None:
                return self._own(name)
            order = picked
        before = self._known[sources[0]]
        return tuple(before[channel] for channel in order)

    def _chain(self, name: str, start: str) -> list[onnx.NodeProto]:
        nodes: list[onnx.NodeProto] = []
        while name != start:
            node = self._makers[name]
            nodes.insert(0, node)
            name = node.input[0]
        return nodes

    def _chain_start(self, name: str) -> str:
        """The feature map where a chain of reshapes and transposes begins; empty if `name` is none itself."""
        if not self._net.is_image(name):
            return ""
        current = name
        while (node := self._makers.get(current)) is not None and node.op_type in ("Reshape", "Transpose"):
            current = node.input[0]
            if current != name and self._net.shapes.get(current) == self._net.shapes[name]:
                return current
        return ""

    def _permutation(self, start: str, name: str) -> list[int] | None:
        """The order of channels that a chain leaves, found by sending numbers through it; None if it is no such order."""
        shape = self._net.shapes[start]
        if math.prod(shape) > _LARGEST or shape[0] != 1:
            return None
        chain = self._chain(name, start)
        if any(self._net.sole_reader(node.output[0], self._readers) is None for node in chain[:-1]):
            return None
        numbers: Array = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
        for node in chain:
            if node.op_type == "Transpose":
                numbers = numbers.transpose(attribute(node, "perm", list(range(numbers.ndim))[::-1]))
                continue
            after: Shape | None = self._net.shapes.get(node.output[0])
            if after is None or math.prod(after) != numbers.size:
                return None
            numbers = numbers.reshape(after)
        plane = shape[2] * shape[3]
        order = numbers.reshape(shape[1], plane)[:, 0] // plane
        whole = np.arange(numbers.size).reshape(shape[1], plane)[order]
        return [int(channel) for channel in order] if np.array_equal(whole, numbers.reshape(shape[1], plane)) else None


def picked_channels(net: Net, node: onnx.NodeProto, output: str) -> list[int] | None:
    """The channels of its input that one output of Split, Slice, Gather or Identity has; None if it does anything else."""
    before, after = net.shapes[node.input[0]], net.shapes.get(output)
    if after is None or len(after) != 4 or (after[0], *after[2:]) != (before[0], *before[2:]):
        return None
    if node.op_type == "Identity":
        return list(range(before[1]))
    if node.op_type == "Split":
        if attribute(node, "axis", 0) not in (1, -3):
            return None
        sizes = [net.shapes[name][1] for name in node.output if name in net.shapes]
        if len(sizes) != len(node.output) or sum(sizes) != before[1]:
            return None
        low = sum(sizes[: list(node.output).index(output)])
        return list(range(low, low + after[1]))
    if node.op_type == "Gather":
        indices = net.constants.get(node.input[1])
        if attribute(node, "axis", 0) not in (1, -3) or indices is None or indices.ndim != 1:
            return None
        return [int(index) % before[1] for index in indices]
    return _sliced(net, node, before)


def _sliced(net: Net, node: onnx.NodeProto, before: Shape) -> list[int] | None:
    if net.opset < 10 or any(name and name not in net.constants for name in node.input[1:]):
        return None
    starts, ends = (net.constants[node.input[place]].tolist() for place in (1, 2))
    axes = net.constants[node.input[3]].tolist() if len(node.input) > 3 and node.input[3] else range(len(starts))
    steps = net.constants[node.input[4]].tolist() if len(node.input) > 4 and node.input[4] else [1] * len(starts)
    channels = list(range(before[1]))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % 4 == 1:
            if step < 1:
                return None
            channels = channels[start:end:step]
        elif step != 1:
            return None
    return channels
