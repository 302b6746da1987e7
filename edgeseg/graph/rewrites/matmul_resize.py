"""A bilinear resize of one or two channels becomes two matrix products, one for each axis.

Interpolation is linear and separable: ``Y = R · X · C`` with a matrix of taps for the rows and one for the columns.
OpenVINO's resize works on many channels of a pixel at once, and wastes the vector unit on the few of a mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

MOST_CHANNELS = 2
"""More channels fill the vector unit better, and cost the products more."""

MOST_PRODUCTS = 256
"""Multiply-accumulates for each value of the result above which the sparse taps win, however badly they run."""


def apply(net: Net, target: Target) -> int:
    """Replace every such resize."""
    return sum(_multiply(net, node) for node in list(net.nodes))


def _multiply(net: Net, node: onnx.NodeProto) -> bool:
    if node.op_type != "Resize" or not channels.is_planar(net, node):
        return False
    if attribute(node, "mode", "nearest") != "linear" or attribute(node, "antialias", 0):
        return False
    if attribute(node, "coordinate_transformation_mode", "half_pixel") != "half_pixel":
        return False
    before, after = net.shapes[node.input[0]], net.shapes[node.output[0]]
    (height, width), (tall, wide) = before[2:], after[2:]
    if len(node.input) > 2 and node.input[2]:  # with scales the coordinates hang on them, not on the sizes
        scales = net.constants[node.input[2]]
        if scales.size and (scales[2] * height != tall or scales[3] * width != wide):
            return False
    columns_first = height * width * wide + tall * height * wide
    rows_first = tall * height * width + tall * width * wide
    if before[1] > MOST_CHANNELS or min(columns_first, rows_first) > MOST_PRODUCTS * tall * wide:
        return False
    columns = net.constant(taps(width, wide).T, f"{node.output[0]}.columns")
    rows = net.constant(taps(height, tall), f"{node.output[0]}.rows")
    half = net.fresh(f"{node.output[0]}.half")
    net.remove([node])
    if columns_first <= rows_first:
        net.add("MatMul", [rows, net.add("MatMul", [node.input[0], columns], half)], node.output[0])
    else:
        net.add("MatMul", [net.add("MatMul", [rows, node.input[0]], half), columns], node.output[0])
    return True


def taps(source: int, target: int) -> Array:
    """[target, source] weights of a linear interpolation with half-pixel centres and repeated edges, float64."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0, source - 1.0)
    low = np.floor(position).astype(np.intp)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target), low), 1.0 - (position - low))
    np.add.at(matrix, (np.arange(target), np.minimum(low + 1, source - 1)), position - low)
    return matrix


REWRITE = Rewrite(order=90, pays=("openvino-*",), apply=apply, carries=True)
