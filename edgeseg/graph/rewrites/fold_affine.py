"""Batch norm, and sums and products with one constant a channel, become weights and bias of the convolution before them.

``(W x + b) * s + t = (s W) x + (s b + t)``. onnxsim does this for batch norms; what it leaves are scales and shifts, and
transposed convolutions. Runtimes fold some of them by themselves, but what is quantised has to be folded before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx


def apply(net: Net, target: Target) -> int:
    """Fold as long as anything follows a convolution that can be folded into it."""
    count = 0
    for node in list(net.nodes):
        while _folded(net, node):
            count += 1
    return count


def _folded(net: Net, conv: onnx.NodeProto) -> bool:
    if conv.op_type not in ("Conv", "ConvTranspose") or not all(name in net.constants for name in conv.input[1:]):
        return False
    transposed = conv.op_type == "ConvTranspose"
    if transposed and attribute(conv, "group", 1) != 1:
        return False
    after = net.sole_reader(conv.output[0], net.readers())
    weight = net.constants[conv.input[1]].astype(np.float64)
    axis = 1 if transposed else 0
    found = _affine(net, after, conv.output[0], weight.shape[axis], weight.ndim) if after is not None else None
    if after is None or found is None:
        return False
    factor, shift = found
    along = [-1 if place == axis else 1 for place in range(weight.ndim)]
    bias = net.constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros(len(factor))
    conv.input[:] = [
        conv.input[0],
        net.constant(weight * factor.reshape(along), conv.input[1]),
        net.constant(bias * factor + shift, f"{conv.output[0]}.bias"),
    ]
    net.remove([after])
    conv.output[0] = after.output[0]
    return True


def _affine(net: Net, node: onnx.NodeProto, name: str, channels: int, rank: int) -> tuple[Array, Array] | None:
    """Factor and shift of each channel, if that is all that a node does to the value `name`."""
    if node.op_type == "BatchNormalization":
        data = [net.constants.get(item) for item in node.input[1:5]]
        known = [item.astype(np.float64) for item in data if item is not None]
        if node.input[0] != name or len(known) < 4 or attribute(node, "training_mode", 0) or len(node.output) > 1:
            return None
        scale, offset, mean, variance = known
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return factor, offset - mean * factor
    if node.op_type not in ("Mul", "Add", "Sub", "Div") or list(node.input).count(name) != 1:
        return None
    place = list(node.input).index(name)
    other = net.constants.get(node.input[1 - place])
    if other is None or other.ndim > rank or (place == 1 and node.op_type in ("Sub", "Div")):
        return None
    full = (1,) * (rank - other.ndim) + other.shape
    if full[1] not in (1, channels) or any(size != 1 for size in (full[0], *full[2:])):
        return None
    values = np.broadcast_to(other.reshape(-1).astype(np.float64), (channels,))
    if node.op_type == "Mul":
        return values, np.zeros(channels)
    if node.op_type == "Div":
        return (1.0 / values, np.zeros(channels)) if np.all(values) else None
    return np.ones(channels), values if node.op_type == "Add" else -values


REWRITE = Rewrite(order=10, pays=("*",), apply=apply)
