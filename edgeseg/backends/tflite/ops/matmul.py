"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from edgeseg.backends.tflite import layout
from edgeseg.backends.tflite.context import Context, Refused, Value, constant_value, lowers
from edgeseg.backends.tflite.ops.elementwise import binary, named, scalar
from edgeseg.backends.tflite.ops.shape import reshaped
from edgeseg.backends.tflite.prepare import Node
from edgeseg.core.arrays import Array


def fully_connected(ctx: Context, value: Value, weights: Array, bias: Array | None) -> Value:
    """FULLY_CONNECTED: the last dimension of `value` times `weights` [out, in]."""
    tensor = ctx.plain(value)
    shape = (*value.shape[:-1], weights.shape[0])
    offset = np.zeros(weights.shape[0]) if bias is None else np.broadcast_to(bias.reshape(-1), (weights.shape[0],))
    result = ctx.emit(
        "FULLY_CONNECTED",
        [tensor, ctx.floats(weights, ctx.node.inputs[1]), ctx.floats(offset, f"{ctx.node.outputs[0]}/bias")],
        shape,
        keepNumDims=len(shape) != 2,
    )
    return Value(shape, value.dtype, layout.identity(len(shape)), result)


@lowers("Gemm")
def gemm(ctx: Context, node: Node) -> None:
    """alpha * A' B' + beta * C."""
    a, b = ctx.input(0), ctx.input(1)
    if a.dtype != np.float32:
        raise Refused(f"it works on {a.dtype.name}")
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    if node.get("transA", 0):
        a = _turned(a)
    if node.get("transB", 0):
        b = _turned(b)
    c = ctx.input(2) if ctx.has(2) else None
    if b.data is not None and a.data is None:
        weights = b.data.T * alpha
        if c is None or (
            c.data is not None and (c.data.size == 1 or c.data.shape in ((1, len(weights)), (len(weights),)))
        ):
            bias = None if c is None or c.data is None else c.data * beta
            ctx.bind_value(named(ctx, fully_connected(ctx, a, weights, bias)))
            return
    result = product(ctx, a, b)
    if alpha != 1.0:
        result = binary(ctx, "MUL", result, scalar(alpha))
    if c is not None:
        result = binary(ctx, "ADD", result, c if beta == 1.0 else binary(ctx, "MUL", c, scalar(beta)))
    ctx.bind_value(named(ctx, result))


def _turned(value: Value) -> Value:
    """A matrix transposed, which costs nothing yet."""
    order = layout.transposed(value.order, (1, 0))
    if value.data is not None:
        return constant_value(value.data.T)
    return Value(value.shape[::-1], value.dtype, order, value.tensor)


@lowers("MatMul")
def matmul(ctx: Context, node: Node) -> None:
    """FULLY_CONNECTED for a constant matrix on the right, BATCH_MATMUL otherwise."""
    a, b = ctx.inputs()
    if a.dtype != np.float32:
        raise Refused(f"it works on {a.dtype.name}")
    if b.data is not None and b.data.ndim == 2 and a.data is None:
        ctx.bind_value(named(ctx, fully_connected(ctx, a, b.data.T, None)))
        return
    rows, columns = len(a.shape) == 1, len(b.shape) == 1
    if rows:
        a = _with_shape(ctx, a, (1, *a.shape))
    if columns:
        b = _with_shape(ctx, b, (*b.shape, 1))
    result = product(ctx, a, b)
    shape = list(result.shape)
    if columns:
        del shape[-1]
    if rows:
        del shape[-1 if columns else -2]
    ctx.bind_value(named(ctx, _with_shape(ctx, result, tuple(shape))))


def _with_shape(ctx: Context, value: Value, shape: layout.Shape) -> Value:
    if value.shape == shape:
        return value
    return constant_value(value.data.reshape(shape)) if value.data is not None else reshaped(ctx, value, shape)


def product(ctx: Context, a: Value, b: Value) -> Value:
    """BATCH_MATMUL of values of rank 2 or more; a transpose of the last two dimensions becomes an option of it."""
    rank = max(len(a.shape), len(b.shape))
    a, b = ctx.aligned(a, rank), ctx.aligned(b, rank)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    tensors, turned = [], []
    for value in (a, b):
        plain = layout.identity(rank)
        swapped = (*plain[:-2], rank - 1, rank - 2)
        turned.append(value.data is None and value.order == swapped)
        tensor = ctx.tensor(value, swapped if turned[-1] else plain)
        if rank > 4:  # the kernels broadcast over two batch dimensions
            full = (*batch, *ctx.shape_of(tensor)[-2:])
            if ctx.shape_of(tensor) != full:
                tensor = ctx.emit("BROADCAST_TO", [tensor, ctx.ints(full)], full)
            tensor = ctx.reshape(tensor, (math.prod(batch), *full[-2:]))
        tensors.append(tensor)
    flat = shape if rank <= 4 else (math.prod(batch), *shape[-2:])
    result = ctx.emit("BATCH_MATMUL", tensors, flat, np.float32, adjX=turned[0], adjY=turned[1])
    return Value(shape, a.dtype, layout.identity(rank), ctx.reshape(result, shape))


@lowers("Einsum")
def einsum(ctx: Context, node: Node) -> None:
    """A product of two operands in which every index is kept, summed, or a batch of both."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    left, _, out = equation.partition("->")
    terms = left.split(",")
    if "..." in equation or not out or len(terms) != 2 or any(len(set(term)) != len(term) for term in (*terms, out)):
        raise Refused(f"the equation {equation!r} is not a product of two operands")
    a, b = terms
    batch = [c for c in out if c in a and c in b]
    rows = [c for c in out if c in a and c not in b]
    columns = [c for c in out if c in b and c not in a]
    summed = [c for c in a if c in b and c not in out]
    if set(a + b) != {*batch, *rows, *columns, *summed}:
        raise Refused(f"the equation {equation!r} sums over an index of one operand")
    x, y = ctx.inputs()
    sizes = {**dict(zip(a, x.shape, strict=True)), **dict(zip(b, y.shape, strict=True))}
    x = _arranged(ctx, x, a, [batch, rows, summed], sizes)
    y = _arranged(ctx, y, b, [batch, summed, columns], sizes)
    letters = [*batch, *rows, *columns]
    result = reshaped(ctx, product(ctx, x, y), tuple(sizes[c] for c in letters))
    permutation = [letters.index(c) for c in out]
    shape = tuple(result.shape[axis] for axis in permutation)
    ctx.bind_value(named(ctx, Value(shape, result.dtype, layout.transposed(result.order, permutation), result.tensor)))


def _arranged(ctx: Context, value: Value, letters: str, groups: list[list[str]], sizes: dict[str, int]) -> Value:
    """A value with its indices in groups, each group one dimension."""
    permutation = [letters.index(letter) for group in groups for letter in group]
    shape = tuple(math.prod(sizes[letter] for letter in group) for group in groups)
    if value.data is not None:
        return constant_value(value.data.transpose(permutation).reshape(shape))
    moved = Value(
        tuple(value.shape[axis] for axis in permutation),
        value.dtype,
        layout.transposed(value.order, permutation),
        value.tensor,
    )
    return reshaped(ctx, moved, shape)
