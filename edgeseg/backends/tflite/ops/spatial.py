"""Windows that slide over images: kernel, strides, dilations and padding of convolutions and pools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeseg.backends.tflite.context import Context, Refused, Value
from edgeseg.backends.tflite.layout import NHWC, dropped, inserted, physical
from edgeseg.backends.tflite.prepare import Node

Pair = tuple[int, int]


def same_pads(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """What TFLite's SAME padding adds before and after one dimension; the odd one out comes after."""
    extent = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Window:
    """A two-dimensional window; every pair is (rows, columns), every entry of `pads` (before, after)."""

    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: tuple[Pair, Pair]
    size: Pair
    """Of the image that it slides over."""

    @staticmethod
    def of(node: Node, kernel: Sequence[int], size: Pair, spatial: int) -> Window:
        """Read a node's window; one spatial dimension becomes the columns of an image of one row."""

        def pair(name: str) -> Pair:
            given = [int(item) for item in node.get(name, [1] * spatial)]
            return (1, given[0]) if spatial == 1 else (given[0], given[1])

        strides, dilations = pair("strides"), pair("dilations")
        kernel = (1, int(kernel[0])) if len(kernel) == 1 else (int(kernel[0]), int(kernel[1]))
        auto = node.get("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            found = [same_pads(size[i], kernel[i], strides[i], dilations[i]) for i in (0, 1)]
            pads = [pair if auto == "SAME_UPPER" else pair[::-1] for pair in found]
        else:
            flat = [int(item) for item in node.get("pads", [0] * (2 * spatial))] if auto == "NOTSET" else [0] * 4
            pads = [(0, 0), (flat[0], flat[1])] if spatial == 1 else [(flat[0], flat[2]), (flat[1], flat[3])]
        return Window(kernel, strides, dilations, (pads[0], pads[1]), size)

    def extent(self, axis: int) -> int:
        """Size of the window with its dilation."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def same(self) -> list[Pair]:
        """The padding that TFLite calls SAME."""
        return [same_pads(self.size[i], self.kernel[i], self.strides[i], self.dilations[i]) for i in (0, 1)]

    def same_size(self) -> Pair:
        """The output size that TFLite calls SAME."""
        rows, columns = (-(-self.size[i] // self.strides[i]) for i in (0, 1))
        return rows, columns

    def out_size(self, *, ceil: bool) -> Pair:
        """Output size by ONNX's formula; with `ceil`, a window that starts in the padding after the image is dropped."""
        sizes = []
        for axis in (0, 1):
            padded = self.size[axis] + sum(self.pads[axis])
            steps = (padded - self.extent(axis)) / self.strides[axis]
            count = (math.ceil(steps) if ceil else math.floor(steps)) + 1
            if ceil and (count - 1) * self.strides[axis] >= self.size[axis] + self.pads[axis][0]:
                count -= 1
            if count < 1:
                raise Refused("its window is larger than the padded image")
            sizes.append(count)
        return sizes[0], sizes[1]

    def reaching(self, out: Pair) -> Window:
        """The same window with padding after the image up to the end of the last step (for ceil mode)."""
        pads = []
        for axis in (0, 1):
            before = self.pads[axis][0]
            needed = (out[axis] - 1) * self.strides[axis] + self.extent(axis) - self.size[axis] - before
            pads.append((before, max(needed, 0)))
        return replace(self, pads=(pads[0], pads[1]))


def as_image(ctx: Context, value: Value) -> tuple[Value, int, int]:
    """A value [N, C, L] or [N, C, H, W] as [N, C, H, W], with its height and width."""
    rank = len(value.shape)
    if rank == 4:
        return value, value.shape[2], value.shape[3]
    if rank != 3:
        raise Refused(f"it works on {rank - 2} spatial dimensions; 1 and 2 can be written")
    shape = (value.shape[0], value.shape[1], 1, value.shape[2])
    if value.data is not None:
        return replace(value, shape=shape, order=(0, 1, 2, 3), data=value.data.reshape(shape)), 1, value.shape[2]
    order = inserted(value.order, [2])
    assert value.tensor is not None
    tensor = ctx.reshape(value.tensor, physical(shape, order))
    return replace(value, shape=shape, order=order, tensor=tensor), 1, value.shape[2]


def bind_image(ctx: Context, tensor: int, like: Value, *, nonnegative: bool = False) -> None:
    """Bind an NHWC result to the node's output, in the rank of the node's input."""
    if len(like.shape) == 3:
        order = dropped(NHWC, [2])
        batch, _, length, channels = ctx.shape_of(tensor)
        ctx.bind(ctx.reshape(tensor, (batch, length, channels)), order, nonnegative=nonnegative)
    else:
        ctx.bind(tensor, NHWC, nonnegative=nonnegative)


def zero_pad(ctx: Context, tensor: int, pads: Sequence[Pair], value: float = 0.0) -> int:
    """Pad the rows and columns of an NHWC tensor."""
    if not any(sum(pair) for pair in pads):
        return tensor
    if any(min(pair) < 0 for pair in pads):
        raise Refused("it has negative padding")
    amounts = np.array([(0, 0), *pads, (0, 0)], np.int32)
    shape = [size + int(pair.sum()) for size, pair in zip(ctx.shape_of(tensor), amounts, strict=True)]
    if value == 0.0:
        return ctx.emit("PAD", [tensor, ctx.ints(amounts)], shape)
    fill = ctx.builder.constant(np.array(value, ctx.dtype_of(tensor)))
    return ctx.emit("PADV2", [tensor, ctx.ints(amounts), fill], shape)
