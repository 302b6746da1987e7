"""Pooling over windows and over whole images."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from edgeseg.backends.tflite.context import Context, Refused, lowers
from edgeseg.backends.tflite.layout import NHWC
from edgeseg.backends.tflite.ops.elementwise import retyped
from edgeseg.backends.tflite.ops.reduce import reduced
from edgeseg.backends.tflite.ops.spatial import Pair, Window, as_image, bind_image, zero_pad
from edgeseg.backends.tflite.prepare import Node
from edgeseg.core.arrays import Array

_LOWEST = float(np.finfo(np.float32).min)


@lowers("MaxPool", "AveragePool")
def pool(ctx: Context, node: Node) -> None:
    """MAX_POOL_2D or AVERAGE_POOL_2D, with the border written out where SAME does not describe it."""
    if len([name for name in node.outputs if name]) > 1:
        raise Refused("its indices are read; TFLite's pooling has none")
    x = ctx.input(0)
    kept = x.dtype
    if kept != np.float32:
        if node.op != "MaxPool" or kept.itemsize > 1:
            raise Refused(f"it works on {kept.name}")
        x = retyped(ctx, x, np.dtype(np.float32))  # exact for 8 bits; TFLite's own 8-bit pooling means quantised
    image, height, width = as_image(ctx, x)
    window = Window.of(node, node.attributes["kernel_shape"], (height, width), len(x.shape) - 2)
    out = window.out_size(ceil=bool(node.get("ceil_mode", 0)))
    if node.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        out = window.same_size()
    full = window.reaching(out)
    tensor = ctx.tensor(image, NHWC)
    if max(window.dilations) > 1:
        result = _dilated(ctx, node, tensor, window, full, out, x.nonnegative)
    elif node.op == "MaxPool":
        result = _max(ctx, tensor, full, out, x.nonnegative)
    else:
        result = _average(ctx, tensor, window, full, out, bool(node.get("count_include_pad", 0)))
    bind_image(ctx, ctx.cast(result, kept), x, nonnegative=x.nonnegative)


def _emit(ctx: Context, kind: str, tensor: int, window: Window, out: Pair, padding: str) -> int:
    batch, _, _, channels = ctx.shape_of(tensor)
    options: dict[str, Any] = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "filterHeight": window.kernel[0],
        "filterWidth": window.kernel[1],
    }
    return ctx.emit(kind, [tensor], (batch, *out, channels), **options)


def _padding(window: Window, out: Pair) -> str | None:
    """TFLite's word for this border, if it has one."""
    if not any(sum(pair) for pair in window.pads):
        return "VALID"
    if list(window.pads) == window.same() and out == window.same_size():
        return "SAME"
    return None


def _max(ctx: Context, tensor: int, full: Window, out: Pair, nonnegative: bool) -> int:
    padding = _padding(full, out)
    if padding is None:
        tensor = zero_pad(ctx, tensor, full.pads, 0.0 if nonnegative else _LOWEST)
        padding = "VALID"
    return _emit(ctx, "MAX_POOL_2D", tensor, full, out, padding)


def _average(ctx: Context, tensor: int, window: Window, full: Window, out: Pair, include: bool) -> int:
    """Mean of a window: TFLite divides by the elements inside the image, so other counts are made up for."""
    counts = _counts(window, out, include)
    inside = _counts(window, out, include=False)
    padding = _padding(full, out)
    if padding is not None:
        result = _emit(ctx, "AVERAGE_POOL_2D", tensor, full, out, padding)
        factor = inside / counts
    else:
        result = _emit(ctx, "AVERAGE_POOL_2D", zero_pad(ctx, tensor, full.pads), full, out, "VALID")
        factor = np.prod(window.kernel) / counts
    if np.all(factor == 1.0):
        return result
    return ctx.emit("MUL", [result, ctx.floats(factor[None, :, :, None])], ctx.shape_of(result))


def _counts(window: Window, out: Pair, include: bool) -> Array:
    """How many elements each window's mean is over, [rows, columns]."""
    along = []
    for axis in (0, 1):
        before, after = window.pads[axis] if include else (0, 0)
        start = np.arange(out[axis]) * window.strides[axis] - window.pads[axis][0]
        taps = start[:, None] + np.arange(window.kernel[axis])[None] * window.dilations[axis]
        along.append(((taps >= -before) & (taps < window.size[axis] + after)).sum(axis=1).astype(np.float64))
    return np.asarray(np.maximum(along[0][:, None] * along[1][None, :], 1.0))


def _dilated(ctx: Context, node: Node, tensor: int, window: Window, full: Window, out: Pair, nonnegative: bool) -> int:
    """A pool with gaps: one strided slice for each tap, then their maximum or sum."""
    taps = list(itertools.product(range(window.kernel[0]), range(window.kernel[1])))
    if len(taps) > 25:
        raise Refused(f"it is a dilated pool of {len(taps)} taps")
    largest = node.op == "MaxPool"
    tensor = zero_pad(ctx, tensor, full.pads, 0.0 if nonnegative or not largest else _LOWEST)
    batch, _, _, channels = ctx.shape_of(tensor)
    shape = (batch, *out, channels)
    result = -1
    for row, column in taps:
        begin = (0, row * window.dilations[0], column * window.dilations[1], 0)
        end = (
            batch,
            begin[1] + (out[0] - 1) * window.strides[0] + 1,
            begin[2] + (out[1] - 1) * window.strides[1] + 1,
            channels,
        )
        strides = (1, *window.strides, 1)
        tap = ctx.emit("STRIDED_SLICE", [tensor, ctx.ints(begin), ctx.ints(end), ctx.ints(strides)], shape)
        result = tap if result < 0 else ctx.emit("MAXIMUM" if largest else "ADD", [result, tap], shape)
    if largest:
        return result
    counts = _counts(window, out, bool(node.get("count_include_pad", 0)))
    return ctx.emit("MUL", [result, ctx.floats((1.0 / counts)[None, :, :, None])], shape)


@lowers("GlobalAveragePool", "GlobalMaxPool")
def global_pool(ctx: Context, node: Node) -> None:
    """MEAN or REDUCE_MAX over the spatial dimensions."""
    value = ctx.input(0)
    kind = "MEAN" if node.op == "GlobalAveragePool" else "REDUCE_MAX"
    ctx.bind_value(reduced(ctx, kind, value, range(2, len(value.shape)), keep=True))
