"""QuantizeLinear, DequantizeLinear, and the integer operators that `integer` finds between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeseg.backends.tflite import integer, layout
from edgeseg.backends.tflite.builder import Quantization
from edgeseg.backends.tflite.context import Context, Refused, Value, constant_value, elements, lowers
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


@lowers(integer.ADD, integer.MUL)
def combine(ctx: Context, node: Node) -> None:
    """ADD and MUL of int8, of tensors that broadcast or of one and a number."""
    operands = [_operand(ctx, place) for place in (0, 3)]
    target = _target(ctx, 6)
    shape = tuple(int(size) for size in np.broadcast_shapes(*(value.shape for value, _ in operands)))
    operands = [
        (value if constant is not None else ctx.aligned(value, len(shape)), constant) for value, constant in operands
    ]
    largest = max((value for value, constant in operands if constant is None), key=lambda value: elements(value.shape))
    order = largest.order
    tensors = [
        ctx.tensor(value, order) if constant is None else constant for value, constant in operands
    ]  # a number has no order
    kind = "ADD" if node.op == integer.ADD else "MUL"
    result = ctx.emit(kind, tensors, layout.physical(shape, order), np.int8, quantization=target, **_fused(node, {}))
    ctx.bind(result, order, nonnegative=_starts_at_zero(target, np.dtype(np.int8)))


def _operand(ctx: Context, index: int) -> tuple[Value, int | None]:
    """A quantised operand, and its tensor if it is a constant, which has to be one number."""
    value = ctx.input(index)
    if value.data is None:
        return _stored(ctx, index), None
    if value.data.size != 1 or value.data.dtype != np.int8:
        raise Refused("it combines a quantised tensor with constants of several elements")
    return value, ctx.builder.quantised_constant(value.data.reshape(1), _target(ctx, index + 1), "number")


@lowers(integer.LOGISTIC)
def logistic(ctx: Context, node: Node) -> None:
    """LOGISTIC of int8, whose kernels write one scale only."""
    x, target = _stored(ctx, 0), _target(ctx, 3)
    tensor = ctx.tensor(x)
    result = ctx.emit("LOGISTIC", [tensor], ctx.shape_of(tensor), np.int8, quantization=target)
    ctx.bind(result, x.order, nonnegative=True)


@lowers(integer.MEAN)
def mean(ctx: Context, node: Node) -> None:
    """MEAN of int8 over the positions of an image."""
    x, target = _stored(ctx, 0), _target(ctx, 3)
    tensor = ctx.tensor(x)
    places = [place for place, axis in enumerate(x.order) if axis >= 2]
    shape = [1 if place in places else size for place, size in enumerate(ctx.shape_of(tensor))]
    result = ctx.emit("MEAN", [tensor, ctx.ints(places)], shape, np.int8, quantization=target, keepDims=True)
    ctx.bind(result, x.order, shape=(*x.shape[:2], *(1 for _ in x.shape[2:])), nonnegative=x.nonnegative)


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
    if value.dtype != np.int8:
        raise Refused(f"it works on {value.dtype.name}")
    wanted = _target(ctx, index + 1)
    if _quantization(ctx, value) == wanted:
        return value
    tensor = ctx.tensor(value)  # the same integers under another scale
    shape = ctx.shape_of(tensor)
    again = ctx.emit("RESHAPE", [tensor, ctx.ints(shape)], shape, quantization=wanted)
    return replace(value, tensor=again)


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
