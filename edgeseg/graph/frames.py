"""The picture as a camera gives it, [1, H, W, 3] of bytes in RGB order, straight into the network.

Preparing a picture is ``(x / 255 - mean) / std`` for each colour, in the order that the network was trained on. A factor and
an order go into the weights of the convolution that reads the picture. The mean goes into its bias where the convolution
pads nothing. Where it pads, a bias would be wrong along the border: the zeros that are padded stand for the mean, and no
byte is 127.5. There the mean is subtracted from the pixels, one pass in floats, and the padded zero stays exactly that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import EdgesegError
from edgeseg.core.spec import ModelSpec
from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute

if TYPE_CHECKING:
    import onnx

NAME = "uint8-input"
"""How the manifest calls it."""


def check(spec: ModelSpec) -> None:
    """Refuse a network that cannot be given frames.

    Raises:
        EdgesegError: It takes bytes already.
    """
    if spec.input_dtype == "uint8":
        raise EdgesegError("the network takes uint8 already", "leave --input out")


def frame_spec(spec: ModelSpec) -> ModelSpec:
    """The spec of a network that `take_frames` has changed: nothing is left to prepare."""
    return replace(
        spec, input_dtype="uint8", input_layout="nhwc", color="rgb", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


def take_frames(model: onnx.ModelProto, spec: ModelSpec, *, merged: bool = True) -> onnx.ModelProto:
    """Change the input of a graph to frames.

    Args:
        model: fp32, static shapes, cleaned; it is not changed.
        spec: Its spec.
        merged: Whether weights are scaled; without it they are only put in order, so that integer weights stay integers.

    Returns:
        The new graph; its spec is that of `frame_spec`.
    """
    import onnx

    check(spec)
    net = Net(model, spec)
    name = spec.input_name
    convs = [node for node in net.nodes if name in node.input]
    weighted = name not in net.outputs and all(
        channels.is_dense(net, node) and list(node.input).count(name) == 1 for node in convs
    )
    order = slice(None, None, 1 if spec.color == "rgb" else -1)
    # Of the colours as they come, for x = factor * (byte - middle).
    factor = (1.0 / (255.0 * np.asarray(spec.std, np.float64)))[order]
    middle = (255.0 * np.asarray(spec.mean, np.float64))[order]
    biased = weighted and merged and not any(_pads(node) for node in convs)
    value = name
    if spec.input_layout == "nchw":
        value = net.add("Transpose", [value], net.fresh(f"{name}.planes"), perm=[0, 3, 1, 2])
    along = (1, 3, 1, 1) if spec.input_layout == "nchw" else (1, 1, 1, 3)
    if not weighted and spec.color == "bgr":
        turned = net.constant(np.array([2, 1, 0], np.int64), f"{name}.order")
        value = net.add("Gather", [value, turned], net.fresh(f"{name}.colours"), axis=along.index(3))
        factor, middle = factor[::-1], middle[::-1]
    value = net.add("Cast", [value], net.fresh(f"{name}.pixels"), to=net.types[name])
    if middle.any() and not biased:
        centre = net.constant(middle.reshape(along), f"{name}.mean")
        value = net.add("Sub", [value, centre], net.fresh(f"{name}.centred"))
    if not (weighted and merged):
        scale = net.constant(factor.reshape(along), f"{name}.factor")
        value = net.add("Mul", [value, scale], net.fresh(f"{name}.prepared"))
    for node in convs:
        node.input[:] = [value if item == name else item for item in node.input]
        if weighted:
            _weigh(net, node, order, factor if merged else np.ones(3), middle if biased else np.zeros(3))
    net.redeclare(name, onnx.TensorProto.UINT8, (1, spec.height, spec.width, 3))
    return net.model()


def _pads(conv: onnx.NodeProto) -> bool:
    return any(attribute(conv, "pads", [0])) or attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")


def _weigh(net: Net, conv: onnx.NodeProto, order: slice, factor: Array, middle: Array) -> None:
    """Take colours as they come, their factors and, into the bias, their means."""
    weight = net.constants[conv.input[1]].astype(np.float64)[:, order] * factor[None, :, None, None]
    inputs = [conv.input[0], net.constant(weight, f"{conv.input[1]}.frames")]
    if middle.any():
        bias = net.constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros(len(weight))
        bias = bias - weight.sum(axis=(2, 3)) @ middle
        inputs.append(net.constant(bias, f"{conv.output[0]}.bias.frames"))
    else:
        inputs += conv.input[2:]
    conv.input[:] = inputs
