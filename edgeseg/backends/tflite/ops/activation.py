"""Functions of one value: activations, roots, exponentials, rounding, casts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeseg.backends.tflite import layout
from edgeseg.backends.tflite.context import Context, Refused, Value, internal, lowers
from edgeseg.backends.tflite.ops.elementwise import binary, broadcast, named, retyped, scalar, widened
from edgeseg.backends.tflite.prepare import Node

_UNARY: dict[str, tuple[str, bool]] = {
    "Relu": ("RELU", True),
    "Sigmoid": ("LOGISTIC", True),
    "Tanh": ("TANH", False),
    "Exp": ("EXP", True),
    "Log": ("LOG", False),
    "Sqrt": ("SQRT", True),
    "Abs": ("ABS", True),
    "Neg": ("NEG", False),
    "Floor": ("FLOOR", False),
    "Ceil": ("CEIL", False),
    "Round": ("ROUND", False),
    "Sin": ("SIN", False),
    "Cos": ("COS", False),
    "HardSwish": ("HARD_SWISH", False),
    "Not": ("LOGICAL_NOT", False),
}
"""ONNX operator to the TFLite operator, and whether its result is never negative."""


def unary(ctx: Context, kind: str, value: Value, *, nonnegative: bool = False, **options: Any) -> Value:
    """Write an operator that changes neither shape nor type."""
    tensor = ctx.tensor(value)
    result = ctx.emit(kind, [tensor], ctx.shape_of(tensor), **options)
    return Value(value.shape, value.dtype, value.order, result, nonnegative=nonnegative)


@lowers(*_UNARY)
def simple(ctx: Context, node: Node) -> None:
    """Operators that TFLite has as they are."""
    kind, nonnegative = _UNARY[node.op]
    value = ctx.input(0)
    if value.dtype.name in ("int8", "uint8", "int16", "int32") and node.op in ("Relu", "Abs", "Neg"):
        ctx.bind_value(named(ctx, _integer(ctx, node.op, value)))
        return
    if value.dtype.name != ("bool" if node.op == "Not" else "float32"):
        raise Refused(f"it works on {value.dtype.name}")
    ctx.bind_value(named(ctx, unary(ctx, kind, value, nonnegative=nonnegative)))


def _integer(ctx: Context, op: str, value: Value) -> Value:
    """Relu, Abs and Neg of integers, by arithmetic that every runtime has."""
    kept, wide = value.dtype, widened(ctx, value)
    negative = binary(ctx, "SUB", scalar(0, np.int32), wide)
    other = {"Relu": scalar(0, np.int32), "Abs": negative, "Neg": negative}[op]
    result = negative if op == "Neg" else binary(ctx, "MAXIMUM", wide, other)
    return retyped(ctx, result, kept)


@lowers("LeakyRelu")
def leaky_relu(ctx: Context, node: Node) -> None:
    """LEAKY_RELU."""
    alpha = float(node.get("alpha", 0.01))
    ctx.bind_value(named(ctx, unary(ctx, "LEAKY_RELU", _float(ctx), alpha=alpha)))


@lowers("PRelu")
def prelu(ctx: Context, node: Node) -> None:
    """PRELU, whose slope broadcasts along the last dimensions as every other operand does."""
    value, slope = ctx.inputs()
    if value.dtype != np.float32:
        raise Refused(f"it works on {value.dtype.name}")
    if slope.data is not None and slope.data.size == 1:
        alpha = float(slope.data.reshape(-1)[0])
        ctx.bind_value(named(ctx, unary(ctx, "LEAKY_RELU", value, alpha=alpha)))
    elif slope.data is not None and len(value.shape) <= 4:
        ctx.bind_value(named(ctx, broadcast(ctx, "PRELU", [value, slope])))
    else:
        positive = unary(ctx, "RELU", value)
        negative = binary(ctx, "MINIMUM", value, scalar(0))
        ctx.bind_value(named(ctx, binary(ctx, "ADD", positive, binary(ctx, "MUL", negative, slope))))


def elu(ctx: Context, value: Value, alpha: float) -> Value:
    """max(x, 0) + alpha * (exp(min(x, 0)) - 1)."""
    if alpha == 1.0:
        return unary(ctx, "ELU", value)
    negative = unary(ctx, "ELU", binary(ctx, "MINIMUM", value, scalar(0)))
    return binary(ctx, "ADD", unary(ctx, "RELU", value), binary(ctx, "MUL", negative, scalar(alpha)))


@lowers("Elu")
def lower_elu(ctx: Context, node: Node) -> None:
    """ELU; TFLite's has no alpha."""
    ctx.bind_value(named(ctx, elu(ctx, _float(ctx), float(node.get("alpha", 1.0)))))


@lowers("Selu")
def selu(ctx: Context, node: Node) -> None:
    """gamma * elu(x, alpha)."""
    alpha, gamma = (
        float(node.get("alpha", 1.67326319217681884765625)),
        float(node.get("gamma", 1.05070102214813232421875)),
    )
    ctx.bind_value(named(ctx, binary(ctx, "MUL", elu(ctx, _float(ctx), alpha), scalar(gamma))))


@lowers("Celu")
def celu(ctx: Context, node: Node) -> None:
    """alpha * elu(x / alpha, 1)."""
    alpha = float(node.get("alpha", 1.0))
    inner = elu(ctx, binary(ctx, "MUL", _float(ctx), scalar(1.0 / alpha)), 1.0)
    ctx.bind_value(named(ctx, binary(ctx, "MUL", inner, scalar(alpha))))


@lowers("HardSigmoid")
def hard_sigmoid(ctx: Context, node: Node) -> None:
    """max(0, min(1, alpha * x + beta)); 6 times of it is a RELU6 that fuses into the addition."""
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    value = _float(ctx)
    if abs(6.0 * alpha - 1.0) > 1e-6:
        value = binary(ctx, "MUL", value, scalar(6.0 * alpha))
    value = unary(ctx, "RELU6", binary(ctx, "ADD", value, scalar(6.0 * beta)))
    ctx.bind_value(named(ctx, nonnegative(binary(ctx, "MUL", value, scalar(1.0 / 6.0)))))


def nonnegative(value: Value) -> Value:
    """The same value, known not to go below 0."""
    return Value(value.shape, value.dtype, value.order, value.tensor, value.data, nonnegative=True)


@lowers("Softplus")
def softplus(ctx: Context, node: Node) -> None:
    """max(x, 0) + log(1 + exp(-|x|)): no overflow at either end."""
    value = _float(ctx)
    decay = unary(ctx, "EXP", unary(ctx, "NEG", unary(ctx, "ABS", value)))
    tail = unary(ctx, "LOG", binary(ctx, "ADD", decay, scalar(1.0)))
    ctx.bind_value(named(ctx, nonnegative(binary(ctx, "ADD", unary(ctx, "RELU", value), tail))))


@lowers("Softsign")
def softsign(ctx: Context, node: Node) -> None:
    """x / (1 + |x|)."""
    value = _float(ctx)
    below = binary(ctx, "ADD", unary(ctx, "ABS", value), scalar(1.0))
    ctx.bind_value(named(ctx, binary(ctx, "DIV", value, below)))


@lowers("Reciprocal")
def reciprocal(ctx: Context, node: Node) -> None:
    """1 / x."""
    ctx.bind_value(named(ctx, binary(ctx, "DIV", scalar(1.0), _float(ctx))))


@lowers("Sign")
def sign(ctx: Context, node: Node) -> None:
    """-1, 0 or 1: two comparisons, because the SIGN operator is missing from old runtimes."""
    value = _float(ctx)
    flags = [
        retyped(ctx, broadcast(ctx, kind, [value, scalar(0.0)], np.dtype(np.bool_)), np.dtype(np.float32))
        for kind in ("GREATER", "LESS")
    ]
    ctx.bind_value(named(ctx, binary(ctx, "SUB", *flags)))


_ERF_ABOVE = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BELOW = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)
"""Coefficients from the highest power of x^2 down: the rational approximation that Eigen and XLA use for float32."""


@lowers("Erf")
def erf(ctx: Context, node: Node) -> None:
    """x * P(x^2) / Q(x^2) on [-4, 4], to the last bits of float32; TFLite has no error function."""
    value = binary(ctx, "MINIMUM", binary(ctx, "MAXIMUM", _float(ctx), scalar(-4.0)), scalar(4.0))
    square = binary(ctx, "MUL", value, value)

    def polynomial(coefficients: tuple[float, ...]) -> Value:
        result = scalar(coefficients[0])
        for coefficient in coefficients[1:]:
            result = binary(ctx, "ADD", binary(ctx, "MUL", square, result), scalar(coefficient))
        return result

    above = binary(ctx, "MUL", value, polynomial(_ERF_ABOVE))
    ctx.bind_value(named(ctx, binary(ctx, "DIV", above, polynomial(_ERF_BELOW))))


@lowers("Gelu")
def gelu(ctx: Context, node: Node) -> None:
    """GELU."""
    approximate = node.get("approximate", "none") == "tanh"
    ctx.bind_value(named(ctx, unary(ctx, "GELU", _float(ctx), approximate=approximate)))


@lowers("Clip")
def clip(ctx: Context, node: Node) -> None:
    """RELU, RELU6 and RELU_N1_TO_1 where the limits are theirs, else MAXIMUM and MINIMUM."""
    value = ctx.input(0)
    limits: list[Value | None] = []
    for index, name in ((1, "min"), (2, "max")):
        if ctx.has(index):
            limits.append(ctx.input(index))
        elif name in node.attributes:
            limits.append(scalar(node.attributes[name]))
        else:
            limits.append(None)
    low, high = (_number(limit, end) for limit, end in zip(limits, (-math.inf, math.inf), strict=True))
    if value.dtype == np.float32 and (low, high) in _CLIPS:
        result = unary(ctx, _CLIPS[low, high], value)
    else:
        result = value
        if limits[0] is not None and low != -math.inf:
            result = binary(ctx, "MAXIMUM", result, limits[0])
        if limits[1] is not None and high != math.inf:
            result = binary(ctx, "MINIMUM", result, limits[1])
    ctx.bind_value(
        named(ctx, nonnegative(result) if low is not None and high is not None and 0 <= low <= high else result)
    )


_CLIPS: dict[tuple[float | None, float | None], str] = {
    (0.0, 6.0): "RELU6",
    (0.0, math.inf): "RELU",
    (-1.0, 1.0): "RELU_N1_TO_1",
}


def _number(limit: Value | None, end: float) -> float | None:
    """A limit as a number; an absent one or the last number of its type is infinite, a computed one None."""
    if limit is None:
        return end
    if limit.data is None:
        return None
    number = float(limit.data.reshape(-1)[0])
    return end if abs(number) >= float(np.finfo(np.float32).max) and (number > 0) == (end > 0) else number


@lowers("Cast", "CastLike")
def cast(ctx: Context, node: Node) -> None:
    """CAST; to and from booleans by comparison, because a cast of 0.5 to bool is false in TFLite."""
    from onnx import helper

    if node.op == "CastLike":
        target = ctx.input(1).dtype
    else:
        target = np.dtype(helper.tensor_dtype_to_np_dtype(int(node.attributes["to"])))
    value = ctx.input(0)
    target = internal(target)
    if target == value.dtype:
        ctx.bind_value(value)
    elif target == np.bool_:
        wide = widened(ctx, value) if value.dtype.name in ("int8", "uint8", "int16") else value
        ctx.bind_value(named(ctx, broadcast(ctx, "NOT_EQUAL", [wide, scalar(0, wide.dtype)], target)))
    else:
        ctx.bind_value(named(ctx, retyped(ctx, value, target)))


@lowers("Identity", "Dropout")
def identity(ctx: Context, node: Node) -> None:
    """Nothing is written."""
    if node.op == "Dropout" and ctx.has(2) and bool(ctx.constant(2, "training mode").reshape(-1)[0]):
        raise Refused("it is in training mode; export the network in eval mode")
    if len(node.outputs) > 1 and node.outputs[1]:
        ctx.bind_data(np.ones(ctx.input(0).shape, np.bool_), output=1)
    ctx.bind_value(ctx.input(0))


@lowers("Softmax", "LogSoftmax")
def softmax(ctx: Context, node: Node) -> None:
    """SOFTMAX over the last physical dimension; before opset 13 over everything from `axis` on."""
    value = _float(ctx)
    rank = len(value.shape)
    kind = "SOFTMAX" if node.op == "Softmax" else "LOG_SOFTMAX"
    axis = int(node.get("axis", -1 if ctx.opset >= 13 else 1))
    axis += rank if axis < 0 else 0
    options: dict[str, Any] = {"beta": 1.0} if kind == "SOFTMAX" else {}
    if ctx.opset < 13 and axis != rank - 1:
        flat = (math.prod(value.shape[:axis]), math.prod(value.shape[axis:]))
        if any(size != 1 for size in value.shape[axis + 1 :]):
            tensor = ctx.reshape(ctx.plain(value), flat)
            result = ctx.reshape(ctx.emit(kind, [tensor], flat, **options), value.shape)
            ctx.bind(result, layout.identity(rank), nonnegative=kind == "SOFTMAX")
            return
    order = (*(place for place in value.order if place != axis), axis)
    tensor = ctx.tensor(value, order)
    shape = ctx.shape_of(tensor)
    if kind == "SOFTMAX" and rank == 4 and shape[-1] == 2:
        result = _softmax_of_two(ctx, tensor)
    elif rank > 4 or rank < 2:  # the kernels know 1 to 4 dimensions, the delegate 2 or more
        flat = (math.prod(shape[:-1]), shape[-1])
        result = ctx.reshape(ctx.emit(kind, [ctx.reshape(tensor, flat)], flat, **options), shape)
    else:
        result = ctx.emit(kind, [tensor], shape, **options)
    ctx.bind(result, order, nonnegative=kind == "SOFTMAX")


def _softmax_of_two(ctx: Context, tensor: int) -> int:
    """Softmax over two classes as the logistic function of their difference, both ways round.

    The same function; a softmax kernel starts anew for every pixel's two numbers, which took an eighth of a whole
    segmentation network's time. The difference is a 1x1 convolution that `fusion` merges into an earlier one.
    """
    shape = ctx.shape_of(tensor)
    difference = ctx.floats(np.array([[1, -1], [-1, 1]]).reshape(2, 1, 1, 2), f"{ctx.node.outputs[0]}/difference")
    options: dict[str, Any] = {
        "padding": "VALID",
        "strideH": 1,
        "strideW": 1,
        "dilationHFactor": 1,
        "dilationWFactor": 1,
    }
    apart = ctx.emit("CONV_2D", [tensor, difference, ctx.floats(np.zeros(2))], shape, **options)
    return ctx.emit("LOGISTIC", [apart], shape)


def _float(ctx: Context) -> Value:
    value = ctx.input(0)
    if value.dtype != np.float32:
        raise Refused(f"it works on {value.dtype.name}")
    return value
