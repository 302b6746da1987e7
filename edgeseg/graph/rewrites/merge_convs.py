"""A 1x1 convolution right behind another convolution joins it where that multiplies less.

``B (A x + a) + b = (B A) x + (B a + b)``: both are linear, and no activation stands between them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.graph import channels
from edgeseg.graph.net import Net
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx


def apply(net: Net, target: Target) -> int:
    """Merge all such pairs, chains from the front."""
    count = 0
    for second in list(net.nodes):
        if channels.is_pointwise(net, second):
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
    bias = matrix @ channels.bias_of(net, first) + channels.bias_of(net, second)
    first.input[:] = [
        first.input[0],
        net.constant(weight, second.input[1]),
        net.constant(bias, f"{second.output[0]}.bias"),
    ]
    net.remove([second])
    first.output[0] = second.output[0]
    return True


REWRITE = Rewrite(order=20, pays=("*",), apply=apply)
