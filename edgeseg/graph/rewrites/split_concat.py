"""A convolution over a concatenation becomes a sum of convolutions, one for each part.

``W · [a, b] = Wa · a + Wb · b``. What works channel by channel between the two (a depthwise convolution, ReLU) is done to
each part. The concatenation is not written any more, and runtimes add a sum inside the convolution that follows. It pays
where the sum has fewer channels than the concatenation, most of all where a part's width kept the whole off the
runtime's fast path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeseg.core.arrays import Array
from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute, set_attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

MOST_PARTS = 3
"""Each part more is one more pass over the sum."""


def apply(net: Net, target: Target) -> int:
    """Split every convolution that reads a concatenation of few parts and is narrower than it."""
    count = 0
    for conv in list(net.nodes):
        if _split(net, conv):
            net.refresh()
            count += 1
    return count


def _split(net: Net, conv: onnx.NodeProto) -> bool:
    if not channels.is_dense(net, conv):
        return False
    makers, readers = net.makers(), net.readers()
    between: list[onnx.NodeProto] = []
    name = conv.input[0]
    while True:
        maker = makers.get(name)
        if maker is None or net.sole_reader(name, readers) is None:
            return False
        if maker.op_type == "Concat":
            break
        if not (channels.is_unary(net, maker) or channels.is_depthwise(net, maker)):
            return False
        between.insert(0, maker)
        name = maker.input[0]
    shapes = [net.shapes.get(part) for part in maker.input]
    widths = [shape[1] for shape in shapes if shape is not None and len(shape) == 4]
    if attribute(maker, "axis", 0) not in (1, -3) or len(widths) != len(shapes) or len(set(maker.input)) != len(shapes):
        return False
    weight, shape = net.constants[conv.input[1]], net.shapes.get(conv.output[0])
    if shape is None or not 2 <= len(widths) <= MOST_PARTS or sum(widths) <= len(weight):
        return False
    sums, low = [], 0
    for place, (part, width) in enumerate(zip(maker.input, widths, strict=True)):
        high = low + width
        value = part
        for node in between:
            value = _part(net, node, value, slice(low, high))
        own = channels.copied(net, conv, f"{conv.output[0]}.part{place}")
        bias = list(conv.input[2:3]) if place == 0 else []
        own.input[:] = [value, net.constant(weight[:, low:high], f"{conv.input[1]}.part{place}"), *bias]
        sums.append(own.output[0])
        low = high
    net.remove([conv])
    while len(sums) > 1:
        last = len(sums) == 2
        name = conv.output[0] if last else net.fresh(f"{conv.output[0]}.sum")
        sums[:2] = [net.add("Add", sums[:2], name)]
    return True


def _part(net: Net, node: onnx.NodeProto, value: str, part: slice) -> str:
    """The node for one part of its channels; returns its output."""
    own = channels.copied(net, node, f"{node.output[0]}.part{part.start}")
    own.input[0] = value
    if node.op_type == "Conv":
        for place in range(1, len(node.input)):
            data: Array = net.constants[node.input[place]][part]
            own.input[place] = net.constant(data, f"{node.input[place]}.part{part.start}")
        set_attribute(own, "group", part.stop - part.start)
    return own.output[0]


REWRITE = Rewrite(order=50, pays=("*-fp*",), apply=apply)
