"""A depthwise convolution in front of a 1x1 convolution of few outputs is done behind it, on few channels.

Both are linear, and the one sums over places what the other sums over channels: output `o` is the sum over taps of a plane
that is moved by the tap, ``sum_t move_t(sum_c P[o, c] D[c, t] x[c])``. So the 1x1 convolution comes first, with one output for
each tap, and what reads and writes the many channels once more is gone; the moved planes are summed by a depthwise
convolution that picks one tap each and a 1x1 convolution of ones. Borders are the same, because a 1x1 convolution without
bias makes zeros of zeros. The multiplications stay about the same; a matrix product does them faster.

OpenVINO gains most, whose depthwise kernels write the many channels back to memory. XNNPACK takes outputs 16 at a time, so that
the 18 planes of two classes cost it as much as 32, and ONNX Runtime's blocked layout gains nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute, set_attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

LEAST_NARROWING = 2
"""The planes are at most this part of the channels: each is written and read once more."""


def apply(net: Net, target: Target) -> int:
    """Rewrite every such pair."""
    count = 0
    for pointwise in list(net.nodes):
        if channels.is_pointwise(net, pointwise):
            depthwise = net.makers().get(pointwise.input[0])
            if depthwise is not None and _fits(net, depthwise, pointwise):
                _narrow(net, depthwise, pointwise)
                count += 1
    return count


def _fits(net: Net, depthwise: onnx.NodeProto, pointwise: onnx.NodeProto) -> bool:
    if not channels.is_depthwise(net, depthwise) or net.sole_reader(depthwise.output[0], net.readers()) is None:
        return False
    taps = math.prod(net.constants[depthwise.input[1]].shape[2:])
    outputs, inputs = net.constants[pointwise.input[1]].shape[:2]
    return set(attribute(depthwise, "strides", [1])) == {1} and taps > 1 and LEAST_NARROWING * taps * outputs <= inputs


def _narrow(net: Net, depthwise: onnx.NodeProto, pointwise: onnx.NodeProto) -> None:
    kernel: Array = net.constants[depthwise.input[1]]
    matrix = net.constants[pointwise.input[1]][:, :, 0, 0].astype(np.float64)  # [outputs, channels]
    (outputs, inputs), sides = matrix.shape, kernel.shape[2:]
    taps = math.prod(sides)
    planes = np.einsum("oc,ct->otc", matrix, kernel.reshape(inputs, taps).astype(np.float64))
    bias = matrix @ channels.bias_of(net, depthwise) + channels.bias_of(net, pointwise)
    name = pointwise.output[0]
    weight = net.constant(planes.reshape(outputs * taps, inputs, 1, 1), f"{pointwise.input[1]}.taps")
    value = net.add("Conv", [depthwise.input[0], weight], net.fresh(f"{name}.taps"), kernel_shape=[1, 1])
    moves = channels.copied(net, depthwise, f"{name}.moved")
    moves.input[:] = [value, net.constant(np.tile(_one_tap_each(sides), (outputs, 1, 1, 1)), f"{name}.moves")]
    set_attribute(moves, "group", outputs * taps)
    sums = np.kron(np.eye(outputs), np.ones(taps))[:, :, None, None]
    net.remove([depthwise, pointwise])
    net.add(
        "Conv",
        [moves.output[0], net.constant(sums, f"{name}.sums"), net.constant(bias, f"{name}.bias")],
        name,
        kernel_shape=[1, 1],
    )


def _one_tap_each(sides: tuple[int, ...]) -> Array:
    """[taps, 1, height, width]: filters that take one place of the window each."""
    return np.eye(math.prod(sides)).reshape(-1, 1, *sides)


REWRITE = Rewrite(order=45, pays=("openvino-fp*",), apply=apply)
