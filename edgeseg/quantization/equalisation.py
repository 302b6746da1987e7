"""Channels of one range: the same float network, with channels scaled so that one scale a tensor serves all of them.

An activation has one scale for all its channels, so a channel of a tenth of the largest range has a tenth of the steps.
A convolution is linear and ReLU keeps positive factors, so a channel may be multiplied where it is made, in the weights,
and divided where it is read (cross-layer equalisation, Nagel et al. 2019, section 4.1). Weights have a scale for each
output channel already, so what a depthwise convolution reads is equalised for nothing; what a dense one reads costs its
weights some of their range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError
from edgeseg.core.operators import PICKERS
from edgeseg.quantization.parts import Layer, Placement
from edgeseg.quantization.scales import LEVELS, steps_of

if TYPE_CHECKING:
    import onnx

    from edgeseg.quantization.ranges import Watched

LARGEST = 2.0**10
"""No channel is multiplied by more: beyond it stand channels that never fire."""

_ROUNDS = 3

_SAME = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Identity")
"""One output with the channels of the first input, and nothing in it that a positive factor would change."""

_PICKS = (*PICKERS, "Gather")
"""Elements are only moved: where they go is found by moving the channels' numbers."""

_FIXED = 0
"""The channel that stays as it is: all that nobody can scale is this one."""


def factors(placement: Placement, seen: Mapping[str, Watched]) -> dict[str, Array]:
    """What each channel of each layer's output is multiplied by.

    A factor ``s`` of a channel divides the rounding of its activations, as the layers that read it see it, and multiplies
    the rounding of the weights that it meets: ``P / s**2 + Q * s**2`` of noise, which is least at ``s**4 = P / Q``. No
    channel gets a larger range than its tensor has.

    Args:
        placement: What is quantised.
        seen: The watched tensors.

    Returns:
        Layer name to [C], 1 or more; layers that keep all their channels as they are are left out.
    """
    channels = _Channels(placement)
    groups = placement.group_of()
    ends = _ends(channels, placement, seen)
    roots = channels.roots
    largest = np.full(channels.count, np.inf)
    step: dict[str, float] = {}
    for name, (numbers, low, high) in ends.items():
        bottom, top = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
        step[name] = (top - bottom) / LEVELS
        with np.errstate(divide="ignore"):
            room = np.minimum(
                np.where(high > 0, top / np.maximum(high, 1e-30), np.inf),
                np.where(low < 0, bottom / np.minimum(low, -1e-30), np.inf),
            )
        np.minimum.at(largest, numbers, room)
    largest[~np.isfinite(largest) | (largest > LARGEST) | (roots == roots[_FIXED])] = 1.0
    wanted = largest
    for _ in range(_ROUNDS):  # the steps of the weights depend on the factors of what they read
        of_activations, of_weights = np.zeros(channels.count), np.zeros(channels.count)
        for layer in placement.layers:
            read = channels.read.get(layer.name)
            if read is None or groups[layer.source].name not in step:
                continue
            weight = placement.weights[layer.weight].astype(np.float64)
            if weight.shape[1] == 1:
                numbers, squares = roots[read], np.square(weight).sum(axis=(1, 2, 3)) / _widths(seen, layer)
                np.add.at(of_activations, numbers, squares * step[groups[layer.source].name] ** 2)
                continue
            numbers = roots[read]
            importance = 1.0 / _widths(seen, layer)
            scaled = (weight / wanted[numbers][None, :, None, None]).astype(np.float32)
            rounding = (np.square(steps_of(scaled).astype(np.float64)) * importance).sum() * weight[0, 0].size
            squares = (np.square(weight).sum(axis=(2, 3)) * importance[:, None]).sum(axis=0)
            np.add.at(of_activations, numbers, squares * step[groups[layer.source].name] ** 2)
            np.add.at(of_weights, numbers, rounding * seen[layer.source].squares)
        with np.errstate(divide="ignore", invalid="ignore"):
            best = (of_activations / of_weights) ** 0.25
        wanted = np.clip(np.where(of_weights > 0, best, largest), 1.0, largest)
    wanted = wanted[roots]
    found = {}
    for layer in placement.layers:
        factor = wanted[channels.of[layer.name]].astype(np.float32) if layer.name in channels.of else np.ones(1)
        if (factor > 1.0).any():
            found[layer.name] = factor
    return found


def _widths(seen: Mapping[str, Watched], layer: Layer) -> Array:
    """Square of the range of each channel that a layer makes: noise counts in proportion to it."""
    watched = seen[layer.result]
    widths = np.square(watched.highs.astype(np.float64) - watched.lows)
    return np.maximum(widths, max(float(widths.max()), 1e-12) * 1e-6)


def apply(placement: Placement, given: Mapping[str, Array]) -> onnx.ModelProto:
    """The network with its channels multiplied where they are made and divided where they are read.

    Args:
        placement: Of the network as it was.
        given: Layer name to [C], as of `factors`.

    Returns:
        A network of the same names that computes the same, but for the last bits.

    Raises:
        GraphError: `given` is of another network.
    """
    import onnx
    from onnx import numpy_helper

    channels = _Channels(placement)
    factor = np.ones(channels.count)
    for name, values in given.items():
        if name not in channels.of or len(channels.of[name]) != len(values):
            raise GraphError(
                f"the channels of {name!r} cannot be multiplied: the network has no such layer of {len(values)} channels",
                "the recipe is of another network",
            )
        factor[channels.root(channels.of[name])] = values
    factor[channels.fixed()] = 1.0
    changed: dict[str, Array] = {}
    for node in placement.model.graph.node:
        if node.op_type != "Conv" or node.output[0] not in channels.of:
            continue
        made = factor[channels.root(channels.of[node.output[0]])]
        weight = placement.weights[node.input[1]].astype(np.float64)
        read = channels.read.get(node.output[0])
        if read is not None:
            divisor = factor[channels.root(read)]
            weight = weight / (divisor[:, None, None, None] if weight.shape[1] == 1 else divisor[None, :, None, None])
        changed[node.input[1]] = (weight * made[:, None, None, None]).astype(np.float32)
        if len(node.input) > 2 and node.input[2]:
            changed[node.input[2]] = (placement.weights[node.input[2]] * made).astype(np.float32)
    model = onnx.ModelProto()
    model.CopyFrom(placement.model)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return model


def _ends(
    channels: _Channels, placement: Placement, seen: Mapping[str, Watched]
) -> dict[str, tuple[Array, Array, Array]]:
    """Group name to the channels that are made in it, with the smallest and largest value of each."""
    found = {}
    for group in placement.groups:
        parts = [(numbers, seen[name]) for name in group.sources if (numbers := channels.at(name)) is not None]
        if len(parts) == len(group.sources):
            found[group.name] = (
                channels.root(np.concatenate([numbers for numbers, _ in parts])),
                np.concatenate([watched.lows for _, watched in parts]),
                np.concatenate([watched.highs for _, watched in parts]),
            )
    return found


class _Channels:
    """Follows every channel from the convolution that makes it to those that read it.

    Attributes:
        of: Convolution (by its output) to the numbers of the channels that it makes.
        read: Convolution to the numbers of the channels that it reads.
        count: How many numbers there are.
        roots: Number to the number that it has become one with.
    """

    def __init__(self, placement: Placement) -> None:
        self.of: dict[str, Array] = {}
        self.read: dict[str, Array] = {}
        self.count = 1
        self._same: list[int] = [_FIXED]
        self._placement = placement
        self._shapes = placement.shapes
        self._carried: dict[str, Array] = {}
        self._walk()
        self.roots = np.array([self._find(number) for number in range(self.count)])

    def root(self, numbers: Array) -> Array:
        """The numbers after channels that have to have one factor have become one."""
        return np.asarray(self.roots[numbers])

    def fixed(self) -> Array:
        """Mask of numbers: which have to stay as they are."""
        return np.asarray(self.roots == self.roots[_FIXED])

    def _find(self, number: int) -> int:
        while self._same[number] != number:
            self._same[number] = self._same[self._same[number]]
            number = self._same[number]
        return number

    def _unite(self, one: Iterable[int], other: Iterable[int]) -> None:
        for a, b in set(zip(one, other, strict=True)):
            low, high = sorted((self._find(int(a)), self._find(int(b))))
            self._same[high] = low

    def _walk(self) -> None:
        model = self._placement.model
        readers = Counter(name for node in model.graph.node for name in node.input)
        # Only what one convolution alone reads, and what stands in the file as such, can be rewritten for it.
        own = {tensor.name for tensor in model.graph.initializer if readers[tensor.name] == 1}
        for value in model.graph.input:
            self._carried[value.name] = np.broadcast_to(np.array(_FIXED), self._shapes[value.name])
        for node in model.graph.node:
            done = False
            if node.op_type == "Conv" and own.issuperset(filter(None, node.input[1:])):
                done = self._convolution(node)
            elif node.op_type in _SAME and not _pads(node) and self.at(node.input[0]) is not None:
                done = self._spread(node.output[0], self.at(node.input[0]))
            elif node.op_type == "Add":
                done = self._sum(node)
            elif node.op_type in _PICKS:
                done = self._pick(node)
            if not done:
                for name in node.input:
                    self._fix(name)
                for name in node.output:
                    if len(self._shapes.get(name, ())) == 4:
                        self._carried[name] = np.broadcast_to(np.array(_FIXED), self._shapes[name])
        for value in model.graph.output:
            self._fix(value.name)

    def at(self, name: str) -> Array | None:
        """The numbers of a tensor's channels, if each is one wherever it is; None otherwise."""
        carried = self._carried.get(name)
        if carried is None or carried.ndim != 4:
            return None
        first = carried[0, :, 0, 0]
        return first if bool((carried == first[None, :, None, None]).all()) else None

    def _spread(self, name: str, numbers: Array | None) -> bool:
        shape = self._shapes.get(name, ())
        if numbers is None or len(shape) != 4 or shape[1] != len(numbers):
            return False
        self._carried[name] = np.broadcast_to(numbers[None, :, None, None], shape)
        return True

    def _convolution(self, node: Any) -> bool:
        weight = self._placement.weights[node.input[1]]
        if weight.ndim != 4:
            return False
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        numbers = self.at(node.input[0])
        depthwise = weight.shape[1] == 1 and group == weight.shape[0]
        if numbers is not None and not depthwise and group != 1:
            return False
        if numbers is None:
            self._fix(node.input[0])
        else:
            self.read[node.output[0]] = numbers
        made = np.arange(self.count, self.count + weight.shape[0])
        self.count += len(made)
        self._same.extend(map(int, made))
        self.of[node.output[0]] = made
        return self._spread(node.output[0], made)

    def _sum(self, node: Any) -> bool:
        parts = [self._carried.get(name) for name in node.input]
        if parts[0] is None or parts[1] is None or parts[0].shape != parts[1].shape:
            return False
        self._unite(parts[0].ravel(), parts[1].ravel())
        self._carried[node.output[0]] = parts[0]
        return True

    def _pick(self, node: Any) -> bool:
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        weights = self._placement.weights
        data = [name for name in node.input if name and name not in weights]
        if not data or any(name not in self._carried for name in data):
            return False
        model = self._placement.model
        graph = helper.make_graph(
            [node], "moved",
            [helper.make_empty_tensor_value_info(name) for name in node.input if name],
            [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        )  # fmt: skip
        feeds = {name: weights[name] if name in weights else self._carried[name] for name in node.input if name}
        single = helper.make_model(graph, opset_imports=model.opset_import)
        for name, result in zip(filter(None, node.output), ReferenceEvaluator(single).run(None, feeds), strict=True):
            self._carried[name] = np.asarray(result)
        return True

    def _fix(self, name: str) -> None:
        carried = self._carried.get(name)
        if carried is not None:
            numbers = np.unique(carried)
            self._unite(numbers, [_FIXED] * len(numbers))


def _pads(node: Any) -> bool:
    """Whether a Resize fills in a number of its own."""
    return any(attribute.name == "extrapolation_value" and attribute.f for attribute in node.attribute)
