"""QuantizeLinear and DequantizeLinear: TFLite's own quantised tensors, so that integer kernels can be built on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeseg.backends.tflite.builder import Quantization
from edgeseg.backends.tflite.context import Context, Refused, Value, constant_value, lowers
from edgeseg.backends.tflite.ops.elementwise import named
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
    ctx.bind(result, value.order)


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
