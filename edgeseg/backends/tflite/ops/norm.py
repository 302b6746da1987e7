"""Normalisation over what the network computes itself: instance, group and layer norm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeseg.backends.tflite.context import Context, Refused, Value, constant_value, lowers
from edgeseg.backends.tflite.ops.activation import unary
from edgeseg.backends.tflite.ops.elementwise import binary, named, scalar
from edgeseg.backends.tflite.ops.reduce import reduced
from edgeseg.backends.tflite.ops.shape import reshaped
from edgeseg.backends.tflite.prepare import Node


def normalized(ctx: Context, value: Value, axes: Sequence[int], epsilon: float) -> tuple[Value, Value, Value]:
    """(x - mean) / sqrt(variance + epsilon) over some logical dimensions; also the mean and the inverse root."""
    mean = reduced(ctx, "MEAN", value, axes, keep=True)
    centred = binary(ctx, "SUB", value, mean)
    variance = reduced(ctx, "MEAN", binary(ctx, "MUL", centred, centred), axes, keep=True)
    root = unary(ctx, "RSQRT", binary(ctx, "ADD", variance, scalar(epsilon)))
    return binary(ctx, "MUL", centred, root), mean, root


def _spread(value: Value, rank: int) -> Value:
    """A value [C] as [1, C, 1, …]."""
    if value.data is None:
        raise Refused("its scale or bias is computed at run time")
    return constant_value(value.data.reshape(1, -1, *[1] * (rank - 2)))


@lowers("InstanceNormalization")
def instance_norm(ctx: Context, node: Node) -> None:
    """Normalised over the spatial dimensions, then scaled per channel."""
    value = ctx.input(0)
    rank = len(value.shape)
    result, _, _ = normalized(ctx, value, range(2, rank), float(node.get("epsilon", 1e-5)))
    result = binary(ctx, "MUL", result, _spread(ctx.input(1), rank))
    ctx.bind_value(named(ctx, binary(ctx, "ADD", result, _spread(ctx.input(2), rank))))


@lowers("GroupNormalization")
def group_norm(ctx: Context, node: Node) -> None:
    """Normalised over groups of channels and the spatial dimensions; scaled per group (opset 18) or channel (21)."""
    value = ctx.input(0)
    groups = int(node.attributes["num_groups"])
    batch, channels, *spatial = value.shape
    split = reshaped(ctx, value, (batch, groups, channels // groups, *spatial))
    rank = len(split.shape)
    result, _, _ = normalized(ctx, split, range(2, rank), float(node.get("epsilon", 1e-5)))
    scale, shift = (ctx.constant(index, what) for index, what in ((1, "scale"), (2, "bias")))
    if ctx.opset < 21:
        scale, shift = (np.repeat(data, channels // groups) for data in (scale, shift))
    result = reshaped(ctx, result, value.shape)
    result = binary(ctx, "MUL", result, _spread(constant_value(scale), len(value.shape)))
    ctx.bind_value(named(ctx, binary(ctx, "ADD", result, _spread(constant_value(shift), len(value.shape)))))


@lowers("LayerNormalization")
def layer_norm(ctx: Context, node: Node) -> None:
    """Normalised over all dimensions from `axis` on."""
    value = ctx.input(0)
    if value.dtype != np.float32:
        raise Refused(f"it works on {value.dtype.name}")
    rank = len(value.shape)
    axis = int(node.get("axis", -1)) % rank
    result, *moments = normalized(ctx, value, range(axis, rank), float(node.get("epsilon", 1e-5)))
    for index, moment in enumerate(moments, start=1):
        if index < len(node.outputs) and node.outputs[index]:
            ctx.bind_value(moment, output=index)
    result = binary(ctx, "MUL", result, ctx.input(1))
    if ctx.has(2):
        result = binary(ctx, "ADD", result, ctx.input(2))
    ctx.bind_value(named(ctx, result))


@lowers("LpNormalization")
def lp_norm(ctx: Context, node: Node) -> None:
    """x / norm(x) over one dimension."""
    value = ctx.input(0)
    axis = int(node.get("axis", -1)) % len(value.shape)
    if int(node.get("p", 2)) == 2:
        total = reduced(ctx, "SUM", binary(ctx, "MUL", value, value), [axis], keep=True)
        norm = unary(ctx, "SQRT", total)
    else:
        norm = reduced(ctx, "SUM", unary(ctx, "ABS", value), [axis], keep=True)
    tiny = scalar(float(np.finfo(np.float32).tiny))  # 0 / 0 is 0 in ONNX
    ctx.bind_value(named(ctx, binary(ctx, "DIV", value, binary(ctx, "MAXIMUM", norm, tiny))))
