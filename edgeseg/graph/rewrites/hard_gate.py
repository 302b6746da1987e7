"""A hard sigmoid behind a convolution becomes the convolution's own scale and shift, and a Clip.

``min(max(a y + b, 0), 1)`` with ``y = W x + c`` is ``Clip(a W x + (a c + b), 0, 1)``. Integer kernels end a range for nothing and
have no hard sigmoid; squeeze-and-excite gates are made like this.
"""

from __future__ import annotations

import numpy as np

from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

FIRST_OPSET = 11
"""From here on the ends of Clip are inputs."""


def apply(net: Net, target: Target) -> int:
    """Rewrite every hard sigmoid that alone reads a convolution with constant weights."""
    if net.opset < FIRST_OPSET:
        return 0
    makers, readers = net.makers(), net.readers()
    count = 0
    for node in list(net.nodes):
        if node.op_type != "HardSigmoid":
            continue
        conv = makers.get(node.input[0])
        if (
            conv is None
            or conv.op_type != "Conv"
            or not all(name in net.constants for name in conv.input[1:])
            or [id(one) for one in readers[conv.output[0]]] != [id(node)]
            or conv.output[0] in net.outputs
        ):
            continue
        alpha, beta = float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))
        weight = net.constants[conv.input[1]].astype(np.float64)
        has_bias = len(conv.input) > 2 and bool(conv.input[2])
        bias = net.constants[conv.input[2]].astype(np.float64) if has_bias else np.zeros(len(weight))
        conv.input[:] = [
            conv.input[0],
            net.constant(alpha * weight, conv.input[1]),
            net.constant(alpha * bias + beta, f"{node.output[0]}.shift"),
        ]
        result = node.output[0]
        low = net.constant(np.zeros((), np.float64), f"{result}.low")
        high = net.constant(np.ones((), np.float64), f"{result}.high")
        net.remove([node])
        net.add("Clip", [conv.output[0], low, high], result)
        count += 1
    return count


REWRITE = Rewrite(order=13, pays=("any-int8",), apply=apply)
