"""QuantizeLinear, DequantizeLinear, and the integer operators that `integer` finds between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeseg.backends.tflite import integer
from edgeseg.backends.tflite.builder import Quantization
from edgeseg.backends.tflite.context import Context, Refused, Value, constant_value, lowers
from edgeseg.backends.tflite.ops.conv import Convolution
from edgeseg.backends.tflite.ops.elementwise import named
from edgeseg.backends.tflite.ops.spatial import bind_image
from edgeseg.backends.tflite.prepare import Node
from edgeseg.core.arrays import Array

_TYPES = ("int8", "uint8", "int16")


def _parameters(ctx: Context, node: Node, value: Value) -> tuple[Array, Array, int]:
    """Scale, zero point (same shape) and axis of a Q or DQ node."""
    scale = ctx.constant(1, "scale").astype(np.float32)
    if node.get("block_size", 0):
        raise Refused("it is quantised in blocks")
    zero = ctx.optional(2, "zero point")
    zero = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    axis = int(node.get("axis", 1)) if scale.size > 1 else 0
    return scale.reshape(-1), zero.reshape(-1), axis % max(len(value.shape), 1)


def _per_tensor(ctx: Context, node: Node, value: Value, stored: np.dtype[Any]) -> Quantization:
    """The quantisation of an activation."""
    scale, zero, _ = _parameters(ctx, node, value)
    if scale.size > 1:
        raise Refused("it quantises an activation per channel; TFLite's activations have one scale")
    if stored == np.int16 and zero.any():
        raise Refused("its int16 zero point is not 0")
    return Quantization((float(scale[0]),), (int(zero[0]),))


@lowers("QuantizeLinear")
def quantize(ctx: Context, node: Node) -> None:
    """QUANTIZE: a float tensor to one of integers with a scale."""
    value = ctx.input(0)
    if value.dtype != np.float32:
        raise Refused(f"it quantises {value.dtype.name}")
    target = ctx.input(2).dtype if ctx.has(2) else np.dtype(np.uint8)
    if target.name not in _TYPES:
        raise Refused(f"it quantises to {target.name}")
    quantization = _per_tensor(ctx, node, value, target)
    tensor = ctx.tensor(value)
    result = ctx.emit("QUANTIZE", [tensor], ctx.shape_of(tensor), target, quantization=quantization)
    ctx.bind(result, value.order, nonnegative=_starts_at_zero(quantization, target))


def _starts_at_zero(quantization: Quantization, dtype: np.dtype[Any]) -> bool:
    """Whether the smallest integer stands for zero."""
    return quantization.zero_point == (int(np.iinfo(dtype).min),)


@lowers(integer.CONV)
def conv(ctx: Context, node: Node) -> None:
    """CONV_2D or DEPTHWISE_CONV_2D of int8 with weights per channel and an int32 bias.

    The end of the result's scale is the ReLU: what is below it is stored as the lowest integer.
    """
    x = _stored(ctx, 0)
    weights, steps = ctx.constant(3, "weights"), ctx.constant(4, "scales of the weights").reshape(-1)
    bias = ctx.optional(5, "bias")
    target = _target(ctx, 6)
    shape = Convolution.of(ctx, node, x, weights)
    channels = weights.shape[0]
    steps = np.broadcast_to(steps, (channels,)).astype(np.float32)
    zeros = (0,) * channels
    along = 0 if shape.kind == "CONV_2D" else 3
    kernel = ctx.builder.quantised_constant(
        shape.laid_out(weights), Quantization(tuple(map(float, steps)), zeros, along), node.inputs[3]
    )
    step = np.float64(_quantization(ctx, x).scale[0])
    offset = ctx.builder.quantised_constant(
        np.zeros(channels, np.int32) if bias is None else bias,
        Quantization(tuple(float(np.float32(step * item)) for item in steps), zeros),
        f"{node.outputs[0]}/bias",
    )
    result = ctx.emit(
        shape.kind,
        [shape.tensor, kernel, offset],
        shape.out,
        np.int8,
        quantization=target,
        **_fused(node, shape.options),
    )
    bind_image(ctx, result, x, nonnegative=_starts_at_zero(target, np.dtype(np.int8)))


@lowers(integer.ADD)
def add(ctx: Context, node: Node) -> None:
    """ADD of int8."""
    a, b = _stored(ctx, 0), _stored(ctx, 3)
    if a.shape != b.shape:
        raise Refused("it adds quantised tensors of different shapes")
    target = _target(ctx, 6)
    tensors = [ctx.tensor(a), ctx.tensor(b, a.order)]
    result = ctx.emit("ADD", tensors, ctx.shape_of(tensors[0]), np.int8, quantization=target, **_fused(node, {}))
    ctx.bind(result, a.order, nonnegative=_starts_at_zero(target, np.dtype(np.int8)))


def _fused(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    activation = node.get("activation", "")
    return {**options, "fusedActivationFunction": activation} if activation else options


def _target(ctx: Context, index: int) -> Quantization:
    """The quantisation of a result, from its scale and zero point."""
    scale, zero = ctx.constant(index, "scale"), ctx.constant(index + 1, "zero point")
    return Quantization((float(scale.reshape(-1)[0]),), (int(zero.reshape(-1)[0]),))


def _stored(ctx: Context, index: int) -> Value:
    """A quantised input, whose tensor has to be quantised as the node says."""
    value = ctx.input(index)
    if value.dtype != np.int8 or _quantization(ctx, value) != _target(ctx, index + 1):
        raise Refused("it reads integers under another scale than they were written with")
    return value


def _quantization(ctx: Context, value: Value) -> Quantization:
    found = ctx.quantization_of(value)
    if found is None:
        raise Refused("it reads integers that no QuantizeLinear has made")
    return found


@lowers("DequantizeLinear")
def dequantize(ctx: Context, node: Node) -> None:
    """DEQUANTIZE; a constant is written as the numbers it stands for."""
    value = ctx.input(0)
    if value.data is not None:
        scale, zero, axis = _parameters(ctx, node, value)
        spread = [-1 if place == axis else 1 for place in range(value.data.ndim)] if scale.size > 1 else []
        real = (value.data.astype(np.float32) - zero.reshape(spread).astype(np.float32)) * scale.reshape(spread)
        ctx.bind_value(constant_value(real.astype(np.float32)))
        return
    if value.dtype.name not in _TYPES:
        raise Refused(f"it dequantises {value.dtype.name}")
    quantization = _per_tensor(ctx, node, value, value.dtype)
    tensor = ctx.tensor(value)
    held = ctx.builder.tensors[tensor]
    if held.quantization != quantization:
        if tensor in ctx.builder.inputs.values() and held.quantization is None:
            held.quantization = quantization
        else:  # the same integers under another scale
            held = ctx.builder.tensors[ctx.emit("RESHAPE", [tensor, ctx.ints(held.shape)], held.shape)]
            held.quantization = quantization
            tensor = len(ctx.builder.tensors) - 1
    result = ctx.emit("DEQUANTIZE", [tensor], ctx.shape_of(tensor), np.float32)
    ctx.bind_value(named(ctx, Value(value.shape, np.dtype(np.float32), value.order, result)))
