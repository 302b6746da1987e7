"""The mean over all positions of an image is a global average pooling, which ONNX Runtime has an integer kernel for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx


def apply(net: Net, target: Target) -> int:
    """Rewrite every ReduceMean over rows and columns that keeps its dimensions."""
    found = [node for node in net.nodes if node.op_type == "ReduceMean" and _fits(net, node)]
    for node in found:
        net.remove([node])
        net.add("GlobalAveragePool", [node.input[0]], node.output[0])
    return len(found)


def _fits(net: Net, node: onnx.NodeProto) -> bool:
    axes = attribute(node, "axes", [])
    if len(node.input) > 1 and node.input[1]:
        data = net.constants.get(node.input[1])
        axes = [] if data is None else data.reshape(-1).tolist()
    return (
        net.is_image(node.input[0])
        and bool(attribute(node, "keepdims", 1))
        and sorted(int(axis) % 4 for axis in axes) == [2, 3]
    )


REWRITE = Rewrite(order=12, pays=("any-int8",), apply=apply)
