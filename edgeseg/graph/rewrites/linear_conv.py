"""Matrix products of pooled vectors become 1x1 convolutions of images of one pixel.

Squeeze-and-excite and channel attention are often written as pooling, flattening, two linear layers and a reshape back. As
convolutions of [N, C, 1, 1] they are what the integer kernels, and every other rewrite, know already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.graph.channels import UNARY, copied
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

_VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity")


def apply(net: Net, target: Target) -> int:
    """Rewrite all products that such a vector reaches through activations and other products."""
    if not any(_product(net, node) for node in net.nodes):
        return 0
    images: dict[str, str] = {}  # a vector [N, C] to the image [N, C, 1, 1] that holds the same
    count = 0
    for node in list(net.nodes):
        source = node.input[0] if node.input else ""
        given, made = net.shape(source), net.shape(node.output[0]) if node.output else None
        if given is None or made is None:
            continue
        if node.op_type in _VIEWS and _is_pixel(net, source) and made == given[:2]:
            images[node.output[0]] = source
        elif source not in images:
            continue
        elif node.op_type in _VIEWS and made == (*given, 1, 1) and node.output[0] not in net.outputs:
            net.redirect(node.output[0], images[source])
        elif node.op_type in UNARY and all(_is_number(net, name) for name in node.input[1:] if name):
            inner = copied(net, node, f"{node.output[0]}.pixel")
            inner.input[0] = images[source]
            _stands_for(net, node, inner.output[0], images)
        elif (found := _product(net, node)) is not None:
            weight, bias = found
            inputs = [images[source], net.constant(weight[:, :, None, None], f"{node.output[0]}.weight")]
            if bias is not None:
                inputs.append(net.constant(bias, f"{node.output[0]}.shift"))
            conv = net.add("Conv", inputs, net.fresh(f"{node.output[0]}.pixel"), kernel_shape=[1, 1])
            _stands_for(net, node, conv, images)
            count += 1
        elif (offset := _offset(net, node)) is not None:
            inputs = [images[source], net.constant(offset, f"{node.output[0]}.shift")]
            _stands_for(net, node, net.add("Add", inputs, net.fresh(f"{node.output[0]}.pixel")), images)
    net.refresh()  # activations of vectors may have become ones of images where no product did
    return count


def _is_number(net: Net, name: str) -> bool:
    return name in net.constants and net.constants[name].size == 1


def _is_pixel(net: Net, name: str) -> bool:
    shape = net.shape(name)
    return net.is_image(name) and shape is not None and shape[2:] == (1, 1)


def _stands_for(net: Net, node: onnx.NodeProto, image: str, images: dict[str, str]) -> None:
    """Let a node's output, for whoever still reads it as a vector, be a view of an image."""
    result = node.output[0]
    shape = net.constant(np.array(net.shapes[result], np.int64), f"{result}.shape")
    net.remove([node])
    net.add("Reshape", [image, shape], result)
    images[result] = image


def _product(net: Net, node: onnx.NodeProto) -> tuple[Array, Array | None] | None:
    """Weights [O, C] and bias [O] of a product of a vector with a constant matrix."""
    matrix = net.constants.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
    if matrix is None or matrix.ndim != 2 or attribute(node, "transA", 0):
        return None
    weight = matrix.astype(np.float64) * attribute(node, "alpha", 1.0)
    weight = weight if attribute(node, "transB", 0) else weight.T
    if len(node.input) < 3 or not node.input[2]:
        return weight, None
    bias = net.constants.get(node.input[2])
    if bias is None or bias.size not in (1, len(weight)) or (bias.ndim == 2 and bias.shape[0] != 1):
        return None
    return weight, np.broadcast_to(bias.reshape(-1) * attribute(node, "beta", 1.0), (len(weight),)).astype(np.float64)


def _offset(net: Net, node: onnx.NodeProto) -> Array | None:
    """What is added to each channel of a vector, [1, C, 1, 1]."""
    if node.op_type != "Add":
        return None
    data = net.constants.get(node.input[1])
    channels = net.shapes[node.output[0]][1]
    if data is None or data.size not in (1, channels) or (data.ndim > 1 and data.shape[-1] != data.size):
        return None
    return np.broadcast_to(data.reshape(-1), (channels,)).reshape(1, -1, 1, 1).astype(np.float64)


REWRITE = Rewrite(order=5, pays=("any-int8",), apply=apply)
