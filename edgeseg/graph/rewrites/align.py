"""Channels padded with zeros to the width that the runtime's kernels want.

ONNX Runtime runs convolutions in a blocked layout (NCHWc) when their channels divide by `LANES`, and pooling and
concatenation when they divide by a whole block of the CPU; otherwise it unpacks, falls back, and packs again. Inside
its kernels it pads to whole blocks anyway, so padding in the weights costs no more arithmetic.

Its integer kernels take 16 channels of a depthwise convolution at a time and the rest one by one (82 and 88 channels cost
it 1.7 and 2.5 times what 96 do), and round their results 8 at a time.
"""

from __future__ import annotations

import math

from edgeseg.core.marks import INTEGER
from edgeseg.graph import channels
from edgeseg.graph.channels import Layout, Region
from edgeseg.graph.net import Net
from edgeseg.graph.rewriting import Rewrite, Target, block_of_this_cpu

LANES = 4
"""What the number of channels of a blocked convolution has to divide by."""

INTEGER_LANES = 8
"""Results that integer kernels round and store at a time."""

MOST_GROWTH = 1.5
"""A value that would grow by more is better left unblocked."""

MOST_WHOLE_GROWTH = 1.4
"""Nor are integer kernels fed with more than this of all that one region holds."""

BLOCKWISE = ("MaxPool", "AveragePool", "Concat")
"""Nodes that need whole blocks."""


def apply(net: Net, target: Target) -> int:
    """Pad every region of channels that is closed: written and read by convolutions with constant weights."""
    count = 0
    tried: set[str] = set()
    for node in list(net.nodes):
        if not channels.is_dense(net, node) or node.output[0] in tried:
            continue
        region = channels.region(net, node.output[0])
        tried |= region.values
        if region.open or not region.readers:
            continue
        layouts = _padded(net, region, target)
        if layouts and channels.lay_out(net, region, layouts):
            net.refresh()
            count += 1
    return count


def _padded(net: Net, region: Region, target: Target) -> dict[str, Layout]:
    """The layout of what every convolution writes into the region; empty to leave it as it is."""
    integer = target.precision == "int8" and any(
        node.doc_string == INTEGER for node in (*region.makers, *region.inner, *region.readers)
    )
    multiple = _integer_multiple(net, region, target) if integer else _multiple(region, target)
    widths = {maker.output[0]: net.shapes[maker.output[0]][1] for maker in region.makers}
    if all(width % multiple == 0 for width in widths.values()):
        return {}
    layouts = {name: tuple(range(width)) + (channels.PAD,) * (-width % multiple) for name, width in widths.items()}
    if integer:
        known = channels.spread(net, region, layouts)
        if known is None:
            return {}
        before = sum(math.prod(net.shapes[name]) for name in known)
        after = sum(len(layout) * math.prod(net.shapes[name][2:]) for name, layout in known.items())
        return layouts if after <= MOST_WHOLE_GROWTH * before else {}
    if any(width + -width % multiple > MOST_GROWTH * width for width in widths.values()):
        return {}
    return layouts


def _integer_multiple(net: Net, region: Region, target: Target) -> int:
    whole = any(channels.is_depthwise(net, inner) and inner.doc_string == INTEGER for inner in region.inner)
    return target.block if whole else INTEGER_LANES


def _multiple(region: Region, target: Target) -> int:
    """Of a region in float, also in a network whose other layers are integers."""
    block = target.block if target.precision != "int8" else block_of_this_cpu()
    return block if any(inner.op_type in BLOCKWISE for inner in region.inner) else LANES


REWRITE = Rewrite(order=70, pays=("onnx-*",), apply=apply, carries=True)
