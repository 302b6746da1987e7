"""Element by element with broadcasting: arithmetic, comparison, logic, choice."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeseg.backends.tflite import layout
from edgeseg.backends.tflite.context import Context, Refused, Value, constant_value, elements, lowers, narrowed
from edgeseg.backends.tflite.layout import Order, Shape
from edgeseg.backends.tflite.prepare import Node

_MAX_RANK = 4
"""Most broadcasting kernels stop here; beyond it dimensions are merged, or operands written out in full."""

_SMALL = ("int8", "uint8", "int16")
"""Types whose arithmetic kernels all mean quantised numbers."""


def broadcast(ctx: Context, kind: str, operands: Sequence[Value], dtype: Any = None, **options: Any) -> Value:
    """Write an operator over operands that broadcast against each other.

    Args:
        kind: TFLite operator.
        operands: ONNX values of one type (for SELECT_V2: the condition first).
        dtype: Type of the result; that of the last operand if left out.
        options: Fields of the operator's options table.

    Returns:
        The result, in the layout of the largest operand.
    """
    shape = tuple(int(size) for size in np.broadcast_shapes(*(value.shape for value in operands)))
    rank = len(shape)
    order = _order(operands, rank)
    tensors: list[int] = []
    for value in operands:
        if value.data is not None and value.data.size == 1:
            tensors.append(ctx.builder.constant(narrowed(value.data).reshape(())))
        else:
            tensors.append(ctx.tensor(ctx.aligned(value, rank), order))
    target = layout.physical(shape, order)
    result_type = np.dtype(dtype) if dtype is not None else ctx.dtype_of(tensors[-1])
    tensors = [_short(ctx, tensor) for tensor in tensors]
    if rank > _MAX_RANK and any(ctx.shape_of(tensor) not in ((), target) for tensor in tensors):
        tensors, view = _merged(ctx, tensors, target)
        result = ctx.reshape(ctx.emit(kind, tensors, view, result_type, **options), target)
    else:
        result = ctx.emit(kind, tensors, target, result_type, **options)
    return Value(shape, result_type, order, result)


def _order(operands: Sequence[Value], rank: int) -> Order:
    """The layout to work in: that of the operand that would cost most to move."""
    tensors = [value for value in operands if value.data is None]
    if not tensors:
        return layout.identity(rank)
    largest = max(tensors, key=lambda value: (elements(value.shape), len(value.shape)))
    missing = rank - len(largest.shape)
    return layout.inserted(largest.order, range(missing))


def _short(ctx: Context, tensor: int) -> int:
    """A constant without leading dimensions of size 1: [C] is the form that kernels and delegates know best."""
    held = ctx.builder.tensors[tensor]
    if held.data is None or not held.shape or held.shape[0] != 1 or len(held.shape) == 1:
        return tensor
    kept = next((axis for axis, size in enumerate(held.shape) if size != 1), len(held.shape) - 1)
    return ctx.builder.constant(held.data.reshape(held.shape[kept:]), held.name)


def _merged(ctx: Context, tensors: list[int], target: Shape) -> tuple[list[int], Shape]:
    """The operands in as few dimensions as their broadcasting allows, written out in full where that is not enough."""
    full = [(1,) * (len(target) - len(ctx.shape_of(tensor))) + ctx.shape_of(tensor) for tensor in tensors]
    shapes, view = layout.merged_broadcast(full, target)
    merged = []
    for tensor, shape in zip(tensors, shapes, strict=True):
        held = ctx.builder.tensors[tensor]
        if held.data is not None:
            seen = ctx.builder.constant(held.data.reshape(shape if held.data.size > 1 else ()), held.name)
        else:
            seen = ctx.reshape(tensor, shape)
        if len(view) > _MAX_RANK and shape not in ((), view):
            seen = ctx.emit("BROADCAST_TO", [seen, ctx.ints(view)], view)
        merged.append(seen)
    return merged, view


def binary(ctx: Context, kind: str, a: Value, b: Value, dtype: Any = None, **options: Any) -> Value:
    """`broadcast` of two operands; 8- and 16-bit integers are computed in 32 bits and cut back, as ONNX wraps them."""
    kept = a.dtype
    if kept.name not in _SMALL:
        return broadcast(ctx, kind, [a, b], dtype, **options)
    result = broadcast(ctx, kind, [widened(ctx, a), widened(ctx, b)], dtype, **options)
    return retyped(ctx, result, kept) if dtype is None else result


def widened(ctx: Context, value: Value) -> Value:
    """An 8- or 16-bit integer value as int32."""
    return retyped(ctx, value, np.dtype(np.int32))


def retyped(ctx: Context, value: Value, dtype: np.dtype[Any]) -> Value:
    """A value cast to another type, in its layout."""
    if value.data is not None:
        return constant_value(value.data.astype(dtype))
    assert value.tensor is not None
    return Value(value.shape, dtype, value.order, ctx.cast(value.tensor, dtype), nonnegative=value.nonnegative)


def scalar(value: float, dtype: Any = np.float32) -> Value:
    """A constant of rank 0."""
    return constant_value(np.array(value, dtype))


_ARITHMETIC = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL"}


@lowers(*_ARITHMETIC)
def arithmetic(ctx: Context, node: Node) -> None:
    """ADD, SUB, MUL."""
    a, b = ctx.inputs()
    _no_logic(a)
    result = binary(ctx, _ARITHMETIC[node.op], a, b)
    if node.op in ("Add", "Mul") and _known_nonnegative(a) and _known_nonnegative(b):
        result = _marked(result)
    ctx.bind_value(named(ctx, result))


def named(ctx: Context, value: Value) -> Value:
    """Give the tensor of a result the name of the node's output."""
    if value.tensor is not None:
        name = ctx.node.outputs[0]
        if ctx.builder.tensors[value.tensor].name.startswith(f"{name}/"):
            ctx.builder.tensors[value.tensor].name = name
    return value


def _marked(value: Value) -> Value:
    return Value(value.shape, value.dtype, value.order, value.tensor, value.data, nonnegative=True)


def _known_nonnegative(value: Value) -> bool:
    return value.nonnegative or (value.data is not None and value.data.size > 0 and bool((value.data >= 0).all()))


def _no_logic(value: Value) -> None:
    if value.dtype == np.bool_:
        raise Refused("it computes with booleans as numbers")


@lowers("Div")
def divide(ctx: Context, node: Node) -> None:
    """DIV; by a float constant, a multiplication is the same to the last bit only for powers of two, so it stays DIV."""
    a, b = ctx.inputs()
    ctx.bind_value(named(ctx, binary(ctx, "DIV", a, never_zero(ctx, b))))


def never_zero(ctx: Context, value: Value) -> Value:
    """An integer divisor with 1 in the place of 0, where ONNX leaves the result open and a CPU would stop."""
    if value.dtype.kind == "f":
        return value
    if value.data is not None:
        return constant_value(np.where(value.data == 0, np.array(1, value.data.dtype), value.data))
    wide = widened(ctx, value)
    zero = broadcast(ctx, "EQUAL", [wide, scalar(0, np.int32)], np.dtype(np.bool_))
    return broadcast(ctx, "SELECT_V2", [zero, scalar(1, np.int32), wide])


@lowers("Mod")
def modulo(ctx: Context, node: Node) -> None:
    """FLOOR_MOD of integers; with fmod=1, x - y * trunc(x / y), whose rounding is only exact for integers."""
    a, b = ctx.inputs()
    if a.dtype.name == "float32":
        raise Refused("it works on float32")
    kept, a, b = a.dtype, widened(ctx, a), never_zero(ctx, widened(ctx, b))
    if node.get("fmod", 0):
        result = binary(ctx, "SUB", a, binary(ctx, "MUL", b, binary(ctx, "DIV", a, b)))
    else:
        result = binary(ctx, "FLOOR_MOD", a, b)
    ctx.bind_value(named(ctx, retyped(ctx, result, kept)))


@lowers("Pow")
def power(ctx: Context, node: Node) -> None:
    """POW, or what is faster for the exponents 1, 2 and 1/2."""
    base, exponent = ctx.inputs()
    if base.dtype != np.float32:
        if exponent.dtype == np.float32:
            raise Refused("it raises integers to a float power")
        if exponent.data is None or (exponent.data < 0).any():
            raise Refused("it raises integers to a power that may be negative")
        ctx.bind_value(named(ctx, binary(ctx, "POW", base, retyped(ctx, exponent, np.dtype(np.int32)))))
        return
    only = float(exponent.data.reshape(-1)[0]) if exponent.data is not None and exponent.data.size == 1 else None
    same_shape = len(exponent.shape) <= len(base.shape)
    if only == 2.0 and same_shape:
        result = _marked(binary(ctx, "MUL", base, base))
    elif only == 1.0 and same_shape:
        result = base
    elif only == 0.5 and same_shape and base.tensor is not None:
        tensor = ctx.emit("SQRT", [base.tensor], ctx.shape_of(base.tensor))
        result = Value(base.shape, base.dtype, base.order, tensor, nonnegative=True)
    else:
        result = binary(ctx, "POW", base, retyped(ctx, exponent, np.dtype(np.float32)))
    ctx.bind_value(named(ctx, result))


_VARIADIC = {"Max": "MAXIMUM", "Min": "MINIMUM", "Sum": "ADD"}


@lowers("Max", "Min", "Sum", "Mean")
def variadic(ctx: Context, node: Node) -> None:
    """A chain of two-operand operators."""
    values = ctx.inputs()
    kind = _VARIADIC.get(node.op, "ADD")
    result = functools.reduce(lambda a, b: binary(ctx, kind, a, b), values)
    if node.op == "Mean" and len(values) > 1:
        result = binary(ctx, "DIV", result, scalar(len(values)))
    ctx.bind_value(named(ctx, result))


_COMPARISONS = {
    "Equal": "EQUAL",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
}


@lowers(*_COMPARISONS)
def compare(ctx: Context, node: Node) -> None:
    """EQUAL, GREATER, …"""
    a, b = ctx.inputs()
    ctx.bind_value(named(ctx, binary(ctx, _COMPARISONS[node.op], a, b, np.dtype(np.bool_))))


_LOGIC = {"And": "LOGICAL_AND", "Or": "LOGICAL_OR", "Xor": "NOT_EQUAL"}


@lowers(*_LOGIC)
def logic(ctx: Context, node: Node) -> None:
    """LOGICAL_AND, LOGICAL_OR; exclusive or of booleans is NOT_EQUAL."""
    a, b = ctx.inputs()
    ctx.bind_value(named(ctx, broadcast(ctx, _LOGIC[node.op], [a, b], np.dtype(np.bool_))))


@lowers("Where")
def where(ctx: Context, node: Node) -> None:
    """SELECT_V2."""
    condition, yes, no = ctx.inputs()
    small = yes.dtype.name in _SMALL or yes.dtype == np.bool_
    if small:
        kept = yes.dtype
        result = broadcast(ctx, "SELECT_V2", [condition, widened(ctx, yes), widened(ctx, no)])
        ctx.bind_value(named(ctx, retyped(ctx, result, kept)))
    else:
        ctx.bind_value(named(ctx, broadcast(ctx, "SELECT_V2", [condition, yes, no])))
