"""An average pooling becomes a depthwise convolution whose weights are all one over the window's size.

Exact where every window has as many elements: without a border, or with one that counts. Integer kernels of depthwise
convolutions are among the best of every runtime, while LiteRT's delegate has no integer average pooling at all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

LARGEST = 25
"""Elements of a window up to which it pays: pooling by large windows is for small maps, and costs nothing either way."""


def apply(net: Net, target: Target) -> int:
    """Rewrite all of them."""
    found = [node for node in net.nodes if node.op_type == "AveragePool" and _fits(net, node)]
    for node in found:
        channels = net.shapes[node.input[0]][1]
        window = attribute(node, "kernel_shape", [1, 1])
        weight = np.full((channels, 1, *window), 1.0 / math.prod(window))
        net.remove([node])
        net.add(
            "Conv", [node.input[0], net.constant(weight, f"{node.output[0]}.mean")], node.output[0],
            kernel_shape=window, group=channels, strides=attribute(node, "strides", [1, 1]),
            pads=attribute(node, "pads", [0, 0, 0, 0]),
        )  # fmt: skip
    return len(found)


def _fits(net: Net, node: onnx.NodeProto) -> bool:
    return (
        net.is_image(node.input[0])
        and math.prod(attribute(node, "kernel_shape", [1, 1])) <= LARGEST
        and (bool(attribute(node, "count_include_pad", 0)) or not any(attribute(node, "pads", [0])))
        and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and not attribute(node, "ceil_mode", 0)
        and set(attribute(node, "dilations", [1])) == {1}
    )


REWRITE = Rewrite(order=14, pays=("any-int8",), apply=apply)
