"""A 1x1 convolution right behind another convolution joins it where that multiplies less.

``B (A x + a) + b = (B A) x + (B a + b)``: both are linear, and no activation stands between them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx


def apply(net: Net, target: Target) -> int:
    """Merge all such pairs, chains from the front."""
    count = 0
    for second in list(net.nodes):
        if is_pointwise(net, second):
            first = net.makers().get(second.input[0])
            if first is not None and channels.is_dense(net, first) and _merge(net, first, second):
                count += 1
    return count


def _merge(net: Net, first: onnx.NodeProto, second: onnx.NodeProto) -> bool:
    if net.sole_reader(first.output[0], net.readers()) is None:
        return False
    inner, outer = net.constants[first.input[1]], net.constants[second.input[1]]
    if len(outer) * math.prod(inner.shape[1:]) > inner.size + outer.size:
        return False
    matrix = outer[:, :, 0, 0].astype(np.float64)
    weight = np.einsum("oc,cihw->oihw", matrix, inner.astype(np.float64))
    bias = matrix @ bias_of(net, first) + bias_of(net, second)
    first.input[:] = [
        first.input[0],
        net.constant(weight, second.input[1]),
        net.constant(bias, f"{second.output[0]}.bias"),
    ]
    net.remove([second])
    first.output[0] = second.output[0]
    return True


def is_pointwise(net: Net, node: onnx.NodeProto) -> bool:
    """A convolution of all channels of each pixel alone."""
    return (
        channels.is_dense(net, node)
        and net.constants[node.input[1]].shape[2:] == (1, 1)
        and set(attribute(node, "strides", [1])) == {1}
        and not any(attribute(node, "pads", [0]))
    )


def bias_of(net: Net, conv: onnx.NodeProto) -> Array:
    """A convolution's bias in float64, zeros if it has none."""
    if len(conv.input) > 2:
        return net.constants[conv.input[2]].astype(np.float64)
    return np.zeros(len(net.constants[conv.input[1]]))


REWRITE = Rewrite(order=20, pays=("*",), apply=apply)
