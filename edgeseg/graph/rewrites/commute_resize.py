"""A 1x1 convolution behind an upsampling moves before it, where there are fewer pixels.

Interpolation mixes pixels with weights that sum to 1 and never channels; a 1x1 convolution mixes channels and never
pixels: ``conv(resize(x)) = resize(conv(x))``, bias included.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

TAPS = 4
"""Multiplications for each value that a bilinear resize makes."""


def apply(net: Net, target: Target) -> int:
    """Move every such convolution whose move saves work."""
    count = 0
    for conv in list(net.nodes):
        if channels.is_pointwise(net, conv) and _move(net, conv):
            net.refresh()
            count += 1
    return count


def _move(net: Net, conv: onnx.NodeProto) -> bool:
    resize = net.makers().get(conv.input[0])
    if resize is None or resize.op_type != "Resize" or not channels.is_planar(net, resize):
        return False
    if attribute(resize, "mode", "nearest") not in ("nearest", "linear") or not net.is_image(conv.output[0]):
        return False
    if net.sole_reader(resize.output[0], net.readers()) is None:
        return False
    before, after = net.shapes[resize.input[0]], net.shapes[conv.output[0]]
    small, large = math.prod(before[2:]), math.prod(after[2:])
    # Work now, and work then: the convolution on the small plane, the resize of what it makes.
    now = large * (before[1] * after[1] + TAPS * before[1])
    then = small * before[1] * after[1] + large * TAPS * after[1]
    if small >= large or then >= now:
        return False
    output = conv.output[0]
    conv.input[0] = resize.input[0]
    conv.output[0] = net.fresh(f"{output}.small")
    resize.input[0], resize.output[0] = conv.output[0], output
    if len(resize.input) > 3 and resize.input[3]:
        sizes = net.constants[resize.input[3]].copy()
        sizes[1] = after[1]
        resize.input[3] = net.constant(sizes, f"{output}.size")
    return True


REWRITE = Rewrite(order=30, pays=("*",), apply=apply)
