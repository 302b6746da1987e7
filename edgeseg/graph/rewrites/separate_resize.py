"""A bilinear resize by a whole factor along one axis and a broken one along the other becomes two.

Bilinear interpolation is the product of two linear ones. ONNX Runtime has a fast kernel in its blocked layout for whole
factors only, so the broken axis goes first, on the small picture, and the whole one second. The blocked kernel is taken
where the input is blocked already: a pooling of 1x1, which changes nothing, brings that about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

KNOWN = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
"""How coordinates are transformed; all of them one axis at a time."""

LEAST = 1 << 16
"""Values of the result below which a second pass is not worth its start."""


def apply(net: Net, target: Target) -> int:
    """Take every such resize apart."""
    return sum(_separate(net, node, target.block) for node in list(net.nodes))


def _separate(net: Net, node: onnx.NodeProto, block: int) -> bool:
    if node.op_type != "Resize" or not channels.is_planar(net, node) or attribute(node, "antialias", 0):
        return False
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if attribute(node, "mode", "nearest") != "linear" or mode not in KNOWN:
        return False
    before, after = net.shapes[node.input[0]], net.shapes[node.output[0]]
    tall, wide = ((after[axis] / before[axis]) for axis in (2, 3))
    whole = [factor == int(factor) for factor in (tall, wide)]
    if before[1] % block or whole[0] == whole[1] or np.prod(after) < LEAST or min(tall, wide) <= 1:
        return False
    broken = 3 if whole[0] else 2
    if len(node.input) > 3 and node.input[3]:
        place, full, still = 3, np.asarray(after), np.asarray(before)
    elif len(node.input) > 2 and node.input[2]:
        place, full, still = 2, net.constants[node.input[2]], np.ones(4, np.float32)
    else:
        return False
    once = np.array(still)
    once[broken] = full[broken]
    twice = np.array(once if place == 3 else still)  # sizes are absolute, scales are relative to the first step
    twice[5 - broken] = full[5 - broken]
    element = np.int64 if place == 3 else np.float32
    first = channels.copied(net, node, f"{node.output[0]}.first")
    first.input[place] = net.constant(once.astype(element), f"{node.output[0]}.first.size")
    blocked = net.add("MaxPool", [first.output[0]], net.fresh(f"{node.output[0]}.blocked"), kernel_shape=[1, 1])
    node.input[0] = blocked
    node.input[place] = net.constant(twice.astype(element), f"{node.output[0]}.second.size")
    return True


REWRITE = Rewrite(order=80, pays=("onnx-fp*",), apply=apply, carries=True)
