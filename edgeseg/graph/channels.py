"""What nodes do to channels: which mix them, which keep each to itself, and how both are told another order or width.

A *layout* is a list with one entry for each channel as it lies in memory: the channel of the original that it holds, or
`PAD` for one that holds zeros, or whatever an activation makes of them. Permutations and paddings are both layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.graph.net import Net, attribute, set_attribute

if TYPE_CHECKING:
    import onnx

PAD = -1
"""A channel that nobody reads with a weight other than 0."""

PLACE = "edgeseg.Place"
"""Operator of a placeholder inside a rewrite: it reads some channels of each input, and its output begins a region."""

Layout = tuple[int, ...]

UNARY = ("Relu", "LeakyRelu", "Clip", "Elu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Softplus", "Identity")
"""Element by element, and finite where its input is 0."""

PLANAR = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize")
"""On each channel alone."""


def is_dense(net: Net, node: onnx.NodeProto) -> bool:
    """A 2-D convolution of all channels with constant weights."""
    return _is_conv(net, node) and attribute(node, "group", 1) == 1


def is_pointwise(net: Net, node: onnx.NodeProto) -> bool:
    """A convolution of all channels of each pixel alone."""
    return (
        is_dense(net, node)
        and net.constants[node.input[1]].shape[2:] == (1, 1)
        and set(attribute(node, "strides", [1])) == {1}
        and not any(attribute(node, "pads", [0]))
    )


def bias_of(net: Net, conv: onnx.NodeProto) -> Array:
    """A convolution's bias in float64, zeros if it has none."""
    if len(conv.input) > 2:
        return net.constants[conv.input[2]].astype(np.float64)
    return np.zeros(len(net.constants[conv.input[1]]))


def is_depthwise(net: Net, node: onnx.NodeProto) -> bool:
    """A 2-D convolution of each channel alone with constant weights, one output a channel."""
    if not _is_conv(net, node):
        return False
    shape, group = net.constants[node.input[1]].shape, attribute(node, "group", 1)
    return group > 1 and shape[0] == group and shape[1] == 1


def _is_conv(net: Net, node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "Conv"
        and net.is_image(node.input[0])
        and all(name in net.constants for name in node.input[1:])
        and all(node.input[1:])
    )


def is_unary(net: Net, node: onnx.NodeProto) -> bool:
    """An activation of every element, with constant parameters that all channels share."""
    return (
        node.op_type in UNARY
        and net.is_image(node.input[0])
        and all(not name or (name in net.constants and net.constants[name].size == 1) for name in node.input[1:])
    )


def is_planar(net: Net, node: onnx.NodeProto) -> bool:
    """Pooling or resizing of each channel alone."""
    if node.op_type not in PLANAR or not net.is_image(node.input[0]) or len(node.output) != 1:
        return False
    if node.op_type != "Resize":
        return True
    before, after = net.shapes[node.input[0]], net.shapes.get(node.output[0])
    plain = not attribute(node, "axes", []) and attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch"
    constant = all(not name or name in net.constants for name in node.input[1:])
    crops = attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    return plain and constant and not crops and after is not None and before[:2] == after[:2]


def copied(net: Net, node: onnx.NodeProto, output: str) -> onnx.NodeProto:
    """A copy of a node under a new name, with a new output; it is part of the net."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = net.fresh(output)
    copy.name = copy.output[0]
    net.nodes.append(copy)
    return copy


def laid_out(data: Array, layout: Layout, axis: int) -> Array:
    """Constants of channels in another layout: zeros where it pads."""
    picked = np.take(data, [max(channel, 0) for channel in layout], axis=axis)
    padded = [place for place, channel in enumerate(layout) if channel == PAD]
    if padded:
        picked[(slice(None),) * axis + (padded,)] = 0
    return picked


@dataclass
class Region:
    """Values whose channels have to lie alike, or follow from each other, up to the convolutions that mix them.

    Attributes:
        makers: Dense convolutions that write into the region: their filters can be put in any order.
        inner: Nodes inside, in no order.
        readers: Dense convolutions that read from it: their weights follow any order.
        values: All values of the region.
        open: Why its channels cannot be moved; empty if they can.
    """

    makers: list[onnx.NodeProto] = field(default_factory=list)
    inner: list[onnx.NodeProto] = field(default_factory=list)
    readers: list[onnx.NodeProto] = field(default_factory=list)
    values: set[str] = field(default_factory=set)
    open: str = ""


def region(net: Net, start: str) -> Region:
    """The region of a value.

    Args:
        net: The graph.
        start: The value.
    """
    makers, readers = net.makers(), net.readers()
    found = Region()
    waiting = [start]
    while waiting and not found.open:
        name = waiting.pop()
        if name in found.values:
            continue
        found.values.add(name)
        maker = makers.get(name)
        if name in net.outputs or not net.is_image(name):
            found.open = f"{name} is an output, or no image"
        elif maker is not None and maker.op_type == PLACE:
            pass
        elif maker is None:
            found.open = f"{name} is an input"
        elif is_dense(net, maker):
            found.makers.append(maker)
        else:
            _enter(net, found, maker, waiting)
        for reader in readers.get(name, []):
            if is_dense(net, reader) and name not in reader.input[1:]:
                found.readers.append(reader)
            elif reader.op_type == PLACE:
                continue
            else:
                _enter(net, found, reader, waiting)
    return found


def _enter(net: Net, found: Region, node: onnx.NodeProto, waiting: list[str]) -> None:
    """Take a node into the region, and look at its inputs and outputs next."""
    if any(node is other for other in found.inner):
        return
    if is_unary(net, node) or is_planar(net, node) or is_depthwise(net, node):
        data = [node.input[0]]
    elif is_concat(net, node) or is_blend(net, node):
        data = list(node.input)
    else:
        found.open = f"{node.op_type} {node.name} may mix channels"
        return
    found.inner.append(node)
    waiting.extend([*data, node.output[0]])


def is_concat(net: Net, node: onnx.NodeProto) -> bool:
    """A concatenation of channels."""
    return (
        node.op_type == "Concat"
        and attribute(node, "axis", 0) in (1, -3)
        and all(net.is_image(name) for name in node.input)
        and net.is_image(node.output[0])
    )


def is_blend(net: Net, node: onnx.NodeProto) -> bool:
    """A sum or product of two values with the same channels (planes may be broadcast)."""
    if node.op_type not in ("Add", "Sub", "Mul") or not net.is_image(node.output[0]):
        return False
    width = net.shapes[node.output[0]][1]
    return all(net.is_image(name) and net.shapes[name][1] == width for name in node.input)


def spread(net: Net, found: Region, layouts: dict[str, Layout]) -> dict[str, Layout] | None:
    """The layouts of all values of a region; None if inner nodes contradict each other.

    Args:
        net: The graph; it is not changed.
        found: The region.
        layouts: Layout of every value that a maker writes or a placeholder begins.
    """
    known = dict(layouts)
    waiting = list(found.inner)
    while waiting:
        ready = [node for node in waiting if all(name in known for name in _data(net, node))]
        if not ready:
            return None
        for node in ready:
            given = [known[name] for name in _data(net, node)]
            if node.op_type == "Concat":
                known[node.output[0]] = _joined(net, node, given)
            elif len(set(given)) > 1:
                return None
            else:
                known[node.output[0]] = given[0]
        waiting = [node for node in waiting if not any(node is done for done in ready)]
    return known


def lay_out(net: Net, found: Region, layouts: dict[str, Layout]) -> bool:
    """Move the channels of a closed region.

    Args:
        net: The graph; weights are changed in place of the old ones, as constants of their own.
        found: The region; its inner values' layouts follow.
        layouts: Layout of every value that a maker writes or a placeholder begins.

    Returns:
        False if the inner nodes contradict each other (e.g. a sum of values in two orders); then nothing was changed.
    """
    known = spread(net, found, layouts)
    if known is None:
        return False
    for node in found.makers:
        for place in range(1, len(node.input)):
            _replace(net, node, place, laid_out(net.constants[node.input[place]], known[node.output[0]], 0))
    for node in found.inner:
        _tell(net, node, known)
    for node in found.readers:
        _replace(net, node, 1, laid_out(net.constants[node.input[1]], known[node.input[0]], 1))
    return True


def _tell(net: Net, node: onnx.NodeProto, known: dict[str, Layout]) -> None:
    """Tell an inner node the new channels."""
    layout = known[node.output[0]]
    if node.op_type == "Conv":
        for place in range(1, len(node.input)):
            _replace(net, node, place, laid_out(net.constants[node.input[place]], layout, 0))
        set_attribute(node, "group", len(layout))
    elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
        sizes = net.constants[node.input[3]].copy()
        sizes[1] = len(layout)
        _replace(net, node, 3, sizes)


def _data(net: Net, node: onnx.NodeProto) -> Sequence[str]:
    """The values of the region that a node reads, without its constants."""
    return node.input if node.op_type in ("Concat", "Add", "Sub", "Mul") else node.input[:1]


def _joined(net: Net, node: onnx.NodeProto, given: Sequence[Layout]) -> Layout:
    layout: list[int] = []
    offset = 0
    for name, part in zip(node.input, given, strict=True):
        layout.extend(channel if channel == PAD else channel + offset for channel in part)
        offset += net.shapes[name][1]
    return tuple(layout)


def _replace(net: Net, node: onnx.NodeProto, place: int, data: Array) -> None:
    """Give a node a constant of its own: others may read the old one."""
    node.input[place] = net.constant(data, node.input[place])
