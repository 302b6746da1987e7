"""Convolution, transposed convolution and the batch norm that stands alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeseg.backends.tflite.context import Context, Refused, constant_value, lowers
from edgeseg.backends.tflite.layout import NHWC
from edgeseg.backends.tflite.ops.elementwise import binary
from edgeseg.backends.tflite.ops.spatial import Window, as_image, bind_image, zero_pad
from edgeseg.backends.tflite.prepare import Node
from edgeseg.core.arrays import Array


@lowers("Conv")
def conv(ctx: Context, node: Node) -> None:
    """CONV_2D or DEPTHWISE_CONV_2D; padding that SAME does not describe becomes a PAD, which XNNPACK folds back."""
    x = ctx.input(0)
    weights = _filter(ctx, "weights")
    bias = ctx.optional(2, "bias")
    image, height, width = as_image(ctx, x)
    channels_out, _, kernel_h, kernel_w = weights.shape
    group = int(node.get("group", 1))
    window = Window.of(node, (kernel_h, kernel_w), (height, width), len(x.shape) - 2)
    tensor = ctx.tensor(image, NHWC)
    out_h, out_w = window.out_size(ceil=False)
    if [tuple(pair) for pair in window.pads] == window.same() and window.same_size() == (out_h, out_w):
        padding = "SAME"
    else:
        padding = "VALID"
        tensor = zero_pad(ctx, tensor, window.pads)
    options: dict[str, Any] = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
    }
    offset = ctx.floats(bias if bias is not None else np.zeros(channels_out), f"{node.outputs[0]}/bias")
    shape = (x.shape[0], out_h, out_w, channels_out)
    name = node.inputs[1]
    if group > 1 and group == image.shape[1]:
        kernel = ctx.floats(weights.reshape(channels_out, kernel_h, kernel_w).transpose(1, 2, 0)[None], name)
        options["depthMultiplier"] = channels_out // group
        result = ctx.emit("DEPTHWISE_CONV_2D", [tensor, kernel, offset], shape, **options)
    else:
        kernel = ctx.floats(weights.transpose(0, 2, 3, 1), name)
        result = ctx.emit("CONV_2D", [tensor, kernel, offset], shape, **options)
    bind_image(ctx, result, x)


def _filter(ctx: Context, what: str) -> Array:
    """A convolution's weights with two spatial dimensions, float32."""
    weights = ctx.constant(1, what).astype(np.float32)
    if weights.ndim == 3:
        return weights[:, :, None, :]
    if weights.ndim != 4:
        raise Refused(f"it has {weights.ndim - 2} spatial dimensions; 1 and 2 can be written")
    return weights


@lowers("ConvTranspose")
def conv_transpose(ctx: Context, node: Node) -> None:
    """TRANSPOSE_CONV, followed by a SLICE where ONNX cuts the border otherwise than TFLite.

    Groups become one dense filter with zeros between the groups; dilation becomes zeros inside the filter.
    """
    x = ctx.input(0)
    image, height, width = as_image(ctx, x)
    one_dimensional = len(x.shape) == 3
    weights = _dense(_filter(ctx, "weights"), int(node.get("group", 1)))
    dilations = _pair(node.get("dilations", [1] * (len(x.shape) - 2)), one_dimensional)
    weights = _dilated(weights, dilations)
    bias = ctx.optional(2, "bias")
    channels_out = weights.shape[1]
    strides = _pair(node.get("strides", [1] * (len(x.shape) - 2)), one_dimensional)
    extra = _pair(node.get("output_padding", [0] * (len(x.shape) - 2)), one_dimensional, 0)
    sizes, begins = [], []
    for axis, size in enumerate((height, width)):
        full = (size - 1) * strides[axis] + weights.shape[2 + axis]
        out, begin = _transposed_size(node, axis, size, full, strides[axis], extra[axis], len(x.shape))
        sizes.append(out)
        begins.append(begin)
    grow = [
        max(0, begins[axis] + sizes[axis] - (size - 1) * strides[axis] - weights.shape[2 + axis])
        for axis, size in enumerate((height, width))
    ]
    if any(grow):  # output padding past the last tap: taps of zero make room for it
        weights = np.pad(weights, [(0, 0), (0, 0), (0, grow[0]), (0, grow[1])])
    same = all(
        out == size * stride and kernel >= stride and begin == (kernel - stride) // 2
        for out, size, stride, kernel, begin in zip(
            sizes, (height, width), strides, weights.shape[2:], begins, strict=True
        )
    )
    full_sizes = [(size - 1) * strides[axis] + weights.shape[2 + axis] for axis, size in enumerate((height, width))]
    written = sizes if same else full_sizes
    shape = (x.shape[0], written[0], written[1], channels_out)
    result = ctx.emit(
        "TRANSPOSE_CONV",
        [
            ctx.ints(shape),
            ctx.floats(weights.transpose(1, 2, 3, 0), node.inputs[1]),
            ctx.tensor(image, NHWC),
            ctx.floats(bias if bias is not None else np.zeros(channels_out), f"{node.outputs[0]}/bias"),
        ],
        shape,
        np.float32,
        padding="SAME" if same else "VALID",
        strideH=strides[0],
        strideW=strides[1],
    )
    if list(written) != sizes:
        cut = (x.shape[0], sizes[0], sizes[1], channels_out)
        result = ctx.emit("SLICE", [result, ctx.ints([0, *begins, 0]), ctx.ints(cut)], cut)
    bind_image(ctx, result, x)


def _transposed_size(
    node: Node, axis: int, size: int, full: int, stride: int, extra: int, rank: int
) -> tuple[int, int]:
    """Output size of a transposed convolution and how much of the full result is cut before it (ONNX formula)."""
    spatial = rank - 2
    place = axis - (2 - spatial)
    auto = node.get("auto_pad", "NOTSET")
    target = node.get("output_shape", None)
    if place < 0:
        return full, 0
    if target is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
        out = int(target[len(target) - spatial + place]) if target is not None else size * stride
        total = max(full + extra - out, 0)
        begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
        return out, begin
    pads = node.get("pads", [0] * (2 * spatial)) if auto == "NOTSET" else [0] * (2 * spatial)
    begin, end = int(pads[place]), int(pads[place + spatial])
    return full - begin - end + extra, begin


def _pair(values: list[int], one_dimensional: bool, lone: int = 1) -> tuple[int, int]:
    return (lone, int(values[0])) if one_dimensional else (int(values[0]), int(values[1]))


def _dense(weights: Array, group: int) -> Array:
    """One filter [I, O, kh, kw] for all groups, zero where a group does not look."""
    if group == 1:
        return weights
    inputs, outputs = weights.shape[:2]
    dense = np.zeros((inputs, outputs * group, *weights.shape[2:]), np.float32)
    step = inputs // group
    for index in range(group):
        rows = slice(index * step, (index + 1) * step)
        dense[rows, index * outputs : (index + 1) * outputs] = weights[rows]
    return dense


def _dilated(weights: Array, dilations: tuple[int, int]) -> Array:
    if max(dilations) == 1:
        return weights
    height, width = ((size - 1) * step + 1 for size, step in zip(weights.shape[2:], dilations, strict=True))
    spread = np.zeros((*weights.shape[:2], height, width), np.float32)
    spread[:, :, :: dilations[0], :: dilations[1]] = weights
    return spread


@lowers("BatchNormalization")
def batch_norm(ctx: Context, node: Node) -> None:
    """A multiplication and an addition per channel."""
    if node.get("training_mode", 0) or len([name for name in node.outputs if name]) > 1:
        raise Refused("it is in training mode; export the network in eval mode")
    x = ctx.input(0)
    scale, shift, mean, variance = (
        ctx.constant(index, what).astype(np.float64)
        for index, what in enumerate(("scale", "B", "mean", "variance"), start=1)
    )
    factor = scale / np.sqrt(variance + float(node.get("epsilon", 1e-5)))
    spread = (1, -1) + (1,) * (len(x.shape) - 2)
    factors, shifts = (data.reshape(spread).astype(np.float32) for data in (factor, shift - mean * factor))
    result = binary(ctx, "ADD", binary(ctx, "MUL", x, constant_value(factors)), constant_value(shifts))
    ctx.bind_value(result)
