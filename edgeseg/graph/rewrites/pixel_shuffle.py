"""A transposed convolution becomes a convolution of stride 1 with more outputs, and a DepthToSpace.

Output pixel ``o`` of a stride ``s`` gets the inputs ``i`` for which ``o + pad - i * s`` is a place in the window. Written as
``o = q * s + r`` these are neighbours of ``q``, the same for all ``q``: ``s * s`` filters side by side, one for each ``r``, whose
results are laid out as pixels. Windows that do not overlap need one neighbour, the input pixel itself, and the
multiplications are the same; those that do need ``ceil(window / s)`` along each side, where ``o`` may have to be counted from
outside of the image to need no more (then a Slice takes the edge off). ONNX Runtime has no integer kernel for transposed
convolutions and OpenVINO none without AVX-512; for plain ones all runtimes have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

FIRST_OPSET = 11
"""From here on the ends of Slice are inputs, and DepthToSpace has its modes."""


@dataclass(frozen=True)
class _Side:
    """Rows or columns.

    Attributes:
        first: Offset of the first neighbour, at most 0.
        last: Offset of the last one.
        before: Zeros before the image.
        behind: Zeros behind it.
        cut: Pixels that the result has before its first.
        taps: [stride, neighbours], place in the window; -1 for none.
    """

    first: int
    last: int
    before: int
    behind: int
    cut: int
    taps: Array

    @property
    def count(self) -> int:
        """How many neighbours."""
        return self.last - self.first + 1


def apply(net: Net, target: Target) -> int:
    """Rewrite all of them."""
    if net.opset < FIRST_OPSET:
        return 0
    found = [node for node in net.nodes if node.op_type == "ConvTranspose" and _fits(net, node)]
    for node in found:
        weight = net.constants[node.input[1]]
        stride = attribute(node, "strides", [1, 1])[0]
        given, made = net.shapes[node.input[0]], net.shapes[node.output[0]]
        pads = attribute(node, "pads", [0, 0, 0, 0])
        rows, columns = (
            _side(weight.shape[2 + axis], stride, pads[axis], given[2 + axis], made[2 + axis]) for axis in (0, 1)
        )
        # DepthToSpace takes channel (row * stride + column) * outputs + c to place (row, column) of channel c.
        places = _filters(weight, rows, columns)
        inputs = [node.input[0], net.constant(places, f"{node.input[1]}.places")]
        if len(node.input) > 2 and node.input[2]:
            bias = np.tile(net.constants[node.input[2]], stride * stride)
            inputs.append(net.constant(bias, f"{node.input[2]}.places"))
        result = node.output[0]
        net.remove([node])
        kernel, border = (
            [rows.count, columns.count],
            [rows.before, columns.before, rows.behind, columns.behind],
        )
        conv = net.add("Conv", inputs, net.fresh(f"{result}.places"), kernel_shape=kernel, pads=border)
        whole = [(size + side.before + side.behind - side.count + 1) * stride
                 for size, side in zip(given[2:], (rows, columns), strict=True)]  # fmt: skip
        if whole == list(made[2:]):
            net.add("DepthToSpace", [conv], result, blocksize=stride, mode="DCR")
            continue
        larger = net.add("DepthToSpace", [conv], net.fresh(f"{result}.whole"), blocksize=stride, mode="DCR")
        starts = [rows.cut, columns.cut]
        ends = [start + size for start, size in zip(starts, made[2:], strict=True)]
        cuts = [net.constant(np.array(part, np.int64), f"{result}.cut") for part in (starts, ends, [2, 3])]
        net.add("Slice", [larger, *cuts], result)
    return len(found)


def _side(window: int, stride: int, pad: int, size: int, made: int) -> _Side:
    """The neighbours along one side, counted from where fewest are needed."""
    choices = []
    for cut in range(stride):
        first = min(0, -((window - 1 - pad + cut) // stride))
        last = max(0, (stride - 1 + pad - cut) // stride)
        choices.append((last - first, cut, first, last))
    _, cut, first, last = min(choices)
    places = np.arange(stride)[:, None] + pad - cut - np.arange(first, last + 1)[None] * stride
    taps = np.where((places >= 0) & (places < window), places, -1)
    needed = -(-(made + cut) // stride)
    return _Side(first, last, -first, max(0, needed - size + last), cut, taps)


def _filters(weight: Array, rows: _Side, columns: _Side) -> Array:
    """[stride * stride * outputs, inputs, rows, columns] of weights [inputs, outputs, window, window]."""
    padded = np.pad(weight, [(0, 0), (0, 0), (0, 1), (0, 1)])  # place -1 is the zero behind the window
    picked = padded[:, :, rows.taps[:, :, None, None], columns.taps[None, None]]  # [I, O, r, row, c, column]
    stride = len(rows.taps)
    return np.ascontiguousarray(picked.transpose(2, 4, 1, 0, 3, 5)).reshape(
        stride * stride * weight.shape[1], weight.shape[0], rows.count, columns.count
    )


def _fits(net: Net, node: onnx.NodeProto) -> bool:
    weight = net.constants.get(node.input[1])
    bias = node.input[2] if len(node.input) > 2 else ""
    if weight is None or weight.ndim != 4 or (bias and bias not in net.constants) or not net.is_image(node.input[0]):
        return False
    strides = attribute(node, "strides", [1, 1])
    made = net.shape(node.output[0])
    return (
        strides[0] == strides[1] > 1
        and attribute(node, "group", 1) == 1
        and set(attribute(node, "dilations", [1])) == {1}
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and not attribute(node, "output_shape", [])
        and made is not None
        and made[1] == weight.shape[1]
    )


REWRITE = Rewrite(order=15, pays=("any-int8",), apply=apply)
