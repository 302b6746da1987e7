"""A transposed convolution whose windows do not overlap becomes a 1x1 convolution and a DepthToSpace.

With a stride as large as the kernel each output pixel comes from one input pixel: ``s * s`` matrices side by side, one for
each place in the window, and their results laid out as pixels. The multiplications are the same. ONNX Runtime has no
integer kernel for transposed convolutions and OpenVINO none without AVX-512; for 1x1 convolutions all runtimes have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx


def apply(net: Net, target: Target) -> int:
    """Rewrite all of them."""
    found = [node for node in net.nodes if node.op_type == "ConvTranspose" and _fits(net, node)]
    for node in found:
        weight = net.constants[node.input[1]]
        step, outputs = weight.shape[2], weight.shape[1]
        # DepthToSpace takes channel (row * step + column) * outputs + c to place (row, column) of channel c.
        rows = weight.transpose(2, 3, 1, 0).reshape(step * step * outputs, -1)[:, :, None, None]
        inputs = [node.input[0], net.constant(rows, f"{node.input[1]}.places")]
        if len(node.input) > 2 and node.input[2]:
            inputs.append(net.constant(np.tile(net.constants[node.input[2]], step * step), f"{node.input[2]}.places"))
        result = node.output[0]
        net.remove([node])
        places = net.add("Conv", inputs, net.fresh(f"{result}.places"), kernel_shape=[1, 1])
        net.add("DepthToSpace", [places], result, blocksize=step, mode="DCR")
    return len(found)


def _fits(net: Net, node: onnx.NodeProto) -> bool:
    weight = net.constants.get(node.input[1])
    bias = node.input[2] if len(node.input) > 2 else ""
    if weight is None or weight.ndim != 4 or (bias and bias not in net.constants) or not net.is_image(node.input[0]):
        return False
    kernel = list(weight.shape[2:])
    shape, made = net.shape(node.input[0]), net.shape(node.output[0])
    return (
        kernel[0] == kernel[1] > 1
        and attribute(node, "strides", [1, 1]) == kernel
        and attribute(node, "group", 1) == 1
        and set(attribute(node, "dilations", [1])) == {1}
        and not any(attribute(node, "pads", [0]))
        and not any(attribute(node, "output_padding", [0]))
        and shape is not None
        and made == (shape[0], weight.shape[1], shape[2] * kernel[0], shape[3] * kernel[1])
    )


REWRITE = Rewrite(order=15, pays=("any-int8",), apply=apply)
