"""The first convolution, of stride 2 over few channels, reads neighbouring pixels as one of more channels.

Kernels take several input channels of a tap at a time (8 in XNNPACK's integer kernels, whole vectors after them), and three
colours leave most of that empty. Side by side, pixels lie in memory as [W / 2, 2 C] just as they lie as [W, C], so in
runtimes that keep channels last only the weights change: a tap of the new kernel holds two of the old, and where the old
kernel ends inside of a pair the other half is zero. ONNX Runtime's integer kernels copy every tap by itself into the rows of
a matrix, and have to bring the channels last anyway: for them rows are grouped as well. In an integer network a first
convolution that stays in float is left alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.marks import INTEGER
from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute, set_attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

FEW = 4
"""Input channels that leave at least half of a kernel's lanes empty."""

PREPARING = ("Cast", "Sub", "Mul", "Transpose", "Gather")
"""What may stand between an input of bytes and its convolution."""

ROWS_TOO = ("onnx",)
"""Backends for which pixels are grouped along both axes."""


def apply(net: Net, target: Target) -> int:
    """Group the pixels of every such convolution that reads the picture."""
    rows = target.backend in ROWS_TOO
    return sum(
        _group(net, node, rows=rows)
        for node in list(net.nodes)
        if channels.is_dense(net, node) and (target.precision != "int8" or node.doc_string == INTEGER)
    )


def _group(net: Net, conv: onnx.NodeProto, *, rows: bool) -> bool:
    weight = net.constants[conv.input[1]]
    shape, after = net.shapes[conv.input[0]], net.shapes.get(conv.output[0])
    if not _is_picture(net, conv.input[0]) or weight.shape[1] > FEW or after is None or len(after) != 4:
        return False
    if set(attribute(conv, "dilations", [1])) != {1} or attribute(conv, "auto_pad", "NOTSET") != "NOTSET":
        return False
    strides, pads = attribute(conv, "strides", [1, 1]), attribute(conv, "pads", [0, 0, 0, 0])
    sides = (strides[0] if rows else 1, strides[1])  # pixels of a group, down and across
    if (
        max(sides) < 2
        or (rows and sides[0] != sides[1])
        or any(size % side for size, side in zip(shape[2:], sides, strict=True))
    ):
        return False
    outputs, inputs, *kernel = weight.shape
    if any(size <= side for size, side in zip(kernel, sides, strict=True) if side > 1):
        return False
    # The groups, relative to a place of the result, in which the first and the last tap of it lie.
    first = [math.floor(-pad / side) for pad, side in zip(pads[:2], sides, strict=True)]
    last = [math.floor((size - 1 - pad) / side) for size, pad, side in zip(kernel, pads[:2], sides, strict=True)]
    grouped = np.zeros(
        (outputs, *sides, inputs, *(high - low + 1 for low, high in zip(first, last, strict=True))), weight.dtype
    )
    for down in range(kernel[0]):
        for across in range(kernel[1]):
            row, column = down - pads[0], across - pads[1]
            grouped[
                :, row % sides[0], column % sides[1], :, row // sides[0] - first[0], column // sides[1] - first[1]
            ] = weight[:, :, down, across]
    name = conv.input[0]
    batch, _, height, width = shape
    tall, wide, many = height // sides[0], width // sides[1], sides[0] * sides[1] * inputs
    if sides[0] > 1:
        conv.input[0] = net.add("SpaceToDepth", [name], net.fresh(f"{name}.groups"), blocksize=sides[0])
    else:
        whole = net.constant(np.array([batch, tall, wide, many], np.int64), f"{name}.shape")
        value = net.add("Transpose", [name], net.fresh(f"{name}.pixels"), perm=[0, 2, 3, 1])
        value = net.add("Reshape", [value, whole], net.fresh(f"{name}.grouped"))
        conv.input[0] = net.add("Transpose", [value], net.fresh(f"{name}.groups"), perm=[0, 3, 1, 2])
    taps = grouped.shape[4:]
    conv.input[1] = net.constant(grouped.reshape(outputs, many, *taps), f"{conv.input[1]}.grouped")
    beyond = [
        max(0, after[2 + axis] - 1 + last[axis] - (size - 1)) if sides[axis] > 1 else pads[2 + axis]
        for axis, size in enumerate((tall, wide))
    ]
    set_attribute(conv, "pads", [-first[0] if sides[0] > 1 else pads[0], -first[1], *beyond])
    set_attribute(conv, "strides", [stride // side for stride, side in zip(strides, sides, strict=True)])
    set_attribute(conv, "kernel_shape", list(taps))
    return True


def _is_picture(net: Net, name: str) -> bool:
    """Whether a value is an input of the graph, or what became of it pixel by pixel."""
    makers = net.makers()
    while (maker := makers.get(name)) is not None and maker.op_type in PREPARING:
        name = maker.input[0]
    return name in net.inputs


REWRITE = Rewrite(order=65, pays=("tflite-int8", "onnx-int8"), apply=apply, carries=True)
