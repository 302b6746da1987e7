"""Reductions over dimensions, and the index of the largest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgeseg.backends.tflite import layout
from edgeseg.backends.tflite.context import Context, Refused, Value, lowers
from edgeseg.backends.tflite.ops.activation import unary
from edgeseg.backends.tflite.ops.elementwise import binary, named, retyped
from edgeseg.backends.tflite.prepare import Node


def reduced(ctx: Context, kind: str, value: Value, axes: Iterable[int], *, keep: bool) -> Value:
    """Write a reduction over logical dimensions, where they lie."""
    logical = sorted({int(axis) % len(value.shape) for axis in axes})
    tensor = ctx.tensor(value)
    places = [place for place, axis in enumerate(value.order) if axis in logical]
    held = ctx.shape_of(tensor)
    shape = [1 if place in places else size for place, size in enumerate(held) if keep or place not in places]
    result = ctx.emit(kind, [tensor, ctx.ints(places)], shape, keepDims=keep)
    if keep:
        order, new = value.order, tuple(1 if axis in logical else size for axis, size in enumerate(value.shape))
    else:
        order = layout.dropped(value.order, logical)
        new = tuple(size for axis, size in enumerate(value.shape) if axis not in logical)
    return Value(new, value.dtype, order, result, nonnegative=value.nonnegative and kind != "REDUCE_PROD")


_PLAIN = {
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
}
_COMPOUND = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")


@lowers(*_PLAIN, *_COMPOUND)
def reduce(ctx: Context, node: Node) -> None:
    """MEAN, SUM, REDUCE_*; norms and logarithms are made of them."""
    value = ctx.input(0)
    keep = bool(node.get("keepdims", 1))
    axes = ctx.integers("axes", 1, "axes")
    if not axes:
        axes = [] if node.get("noop_with_empty_axes", 0) else list(range(len(value.shape)))
    axes = [axis % len(value.shape) for axis in axes] if value.shape else []
    kept = value.dtype
    if kept.name in ("int8", "uint8", "int16") or (kept == np.bool_ and node.op in ("ReduceMax", "ReduceMin")):
        value = retyped(ctx, value, np.dtype(np.int32))
    if value.dtype != np.float32 and (node.op in _COMPOUND or node.op == "ReduceMean"):
        raise Refused(f"it works on {kept.name}")
    if node.op in ("ReduceL2", "ReduceSumSquare"):
        value = binary(ctx, "MUL", value, value)
    elif node.op == "ReduceL1":
        value = unary(ctx, "ABS", value)
    result = _core(ctx, node.op, value, axes, keep)
    if node.op == "ReduceL2":
        result = unary(ctx, "SQRT", result, nonnegative=True)
    elif node.op == "ReduceLogSum":
        result = unary(ctx, "LOG", result)
    ctx.bind_value(named(ctx, retyped(ctx, result, kept)))


def _core(ctx: Context, op: str, value: Value, axes: list[int], keep: bool) -> Value:
    if op == "ReduceLogSumExp":
        if not axes:
            return value
        largest = reduced(ctx, "REDUCE_MAX", value, axes, keep=True)
        spread = unary(ctx, "EXP", binary(ctx, "SUB", value, largest))
        total = unary(ctx, "LOG", reduced(ctx, "SUM", spread, axes, keep=True))
        result = binary(ctx, "ADD", total, largest)
        return result if keep else squeezed(ctx, result, axes)
    if not axes:
        return value
    return reduced(ctx, _PLAIN.get(op, "SUM"), value, axes, keep=keep)


def squeezed(ctx: Context, value: Value, axes: Iterable[int]) -> Value:
    """A value without some of its dimensions of size 1."""
    gone = list(axes)
    order = layout.dropped(value.order, gone)
    shape = tuple(size for axis, size in enumerate(value.shape) if axis not in gone)
    assert value.tensor is not None
    tensor = ctx.reshape(value.tensor, layout.physical(shape, order))
    return Value(shape, value.dtype, order, tensor, nonnegative=value.nonnegative)


@lowers("ArgMax", "ArgMin")
def arg_max(ctx: Context, node: Node) -> None:
    """ARG_MAX, where the first of equals wins; for the last one, the dimension is searched backwards."""
    value = ctx.input(0)
    if value.dtype != np.float32:
        value = retyped(ctx, value, np.dtype(np.float32)) if value.dtype.itemsize < 4 else value
    axis = int(node.get("axis", 0)) % max(len(value.shape), 1)
    tensor = ctx.tensor(value)
    place = value.order.index(axis)
    held = ctx.shape_of(tensor)
    backwards = bool(node.get("select_last_index", 0))
    if backwards:
        indices = ctx.ints(np.arange(held[place])[::-1])
        tensor = ctx.emit("GATHER", [tensor, indices], held, axis=place, batchDims=0)
    shape = [size for index, size in enumerate(held) if index != place]
    kind = "ARG_MAX" if node.op == "ArgMax" else "ARG_MIN"
    result = ctx.emit(kind, [tensor, ctx.builder.constant(np.int32(place))], shape, np.int32, outputType="INT32")
    if backwards:
        last = ctx.builder.constant(np.int32(held[place] - 1))
        result = ctx.emit("SUB", [last, result], shape)
    order = layout.dropped(value.order, [axis])
    if node.get("keepdims", 1):
        result = ctx.reshape(result, [1 if index == place else size for index, size in enumerate(held)])
        order = value.order
    ctx.bind(result, order)


@lowers("CumSum")
def cumulative_sum(ctx: Context, node: Node) -> None:
    """CUMSUM."""
    value = ctx.input(0)
    if value.dtype.name not in ("float32", "int32"):
        raise Refused(f"it works on {value.dtype.name}")
    axis = int(ctx.constant(1, "axis").reshape(-1)[0]) % len(value.shape)
    tensor = ctx.tensor(value)
    place = ctx.builder.constant(np.int32(value.order.index(axis)))
    options: dict[str, Any] = {"exclusive": bool(node.get("exclusive", 0)), "reverse": bool(node.get("reverse", 0))}
    ctx.bind(ctx.emit("CUMSUM", [tensor, place], ctx.shape_of(tensor), **options), value.order)
