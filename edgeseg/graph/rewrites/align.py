"""Channels padded with zeros to the width that the runtime's kernels want.

ONNX Runtime runs convolutions in a blocked layout (NCHWc) when their channels divide by `LANES`, and pooling and
concatenation when they divide by a whole block of the CPU; otherwise it unpacks, falls back, and packs again. Inside
its kernels it pads to whole blocks anyway, so padding in the weights costs no more arithmetic. For integer kernels, which
take 8 or 16 channels at a time, the same widths were measured to pay in all runtimes.
"""

from __future__ import annotations

from edgeseg.graph import channels
from edgeseg.graph.net import Net
from edgeseg.graph.rewriting import Rewrite, Target

LANES = 4
"""What the number of channels of a blocked convolution has to divide by."""

MOST_GROWTH = 1.5
"""A value that would grow by more is better left unblocked."""

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
        multiple = target.block if any(inner.op_type in BLOCKWISE for inner in region.inner) else LANES
        widths = {maker.output[0]: net.shapes[maker.output[0]][1] for maker in region.makers}
        if all(width % multiple == 0 for width in widths.values()):
            continue
        if any(width + -width % multiple > MOST_GROWTH * width for width in widths.values()):
            continue
        layouts = {name: tuple(range(width)) + (channels.PAD,) * (-width % multiple) for name, width in widths.items()}
        if channels.lay_out(net, region, layouts):
            net.refresh()
            count += 1
    return count


REWRITE = Rewrite(order=70, pays=("onnx-fp*", "any-int8"), apply=apply)
