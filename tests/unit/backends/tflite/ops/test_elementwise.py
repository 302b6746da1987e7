"""Arithmetic, comparison and choice with broadcasting, and functions of one value, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import GraphError

SHAPES = [
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), ()),
    ((1, 3, 1, 5), (2, 1, 4, 1)),
    ((5,), (2, 3, 4, 5)),
    ((2, 3, 4, 5, 2), (3, 1, 1, 2)),
    ((2, 1, 4, 1, 2), (1, 3, 1, 5, 1)),
    ((2, 1, 2, 1, 2, 3), (1, 2, 1, 2, 1, 3)),
]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_arithmetic(check_node, rand, op, shapes):
    a, b = rand(*shapes[0]), np.abs(rand(*shapes[1])) + np.float32(0.5)
    check_node(op, a, b, data=2)
    check_node(op, a, b)


def test_arithmetic_with_the_constant_first(check_node, make_model, compare, rand):
    from onnx import helper

    feeds = {"x": rand(1, 3, 4, 5)}
    for op in ("Sub", "Div"):
        model = make_model([helper.make_node(op, ["c", "x"], ["y"])], feeds, {"c": rand(3, 1, 1)})
        compare(model, feeds)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max"])
def test_integer_arithmetic(check_node, op, dtype):
    rng = np.random.default_rng(3)
    a, b = rng.integers(-9, 9, (2, 3, 4)).astype(dtype), rng.integers(1, 9, (3, 1)).astype(dtype)
    check_node(op, a, b, data=2)


@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_comparison(check_node, rand, op):
    a, b = np.round(rand(2, 3, 4, 5)), np.round(rand(3, 1, 5))
    check_node(op, a, b, data=2)
    check_node(op, a.astype(np.int64), b.astype(np.int64), data=2)


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic(check_node, rand, op):
    check_node(op, rand(3, 4) > 0, rand(4) > 0, data=2)


def test_where(check_node, rand):
    check_node("Where", rand(2, 1, 4, 5) > 0, rand(2, 3, 4, 5), rand(3, 1, 1), data=3)
    check_node("Where", rand(3, 4) > 0, np.arange(12).reshape(3, 4), np.zeros((1,), np.int64), data=3)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0, -1.0, 0.3])
def test_pow(check_node, rand, exponent):
    check_node("Pow", np.abs(rand(2, 3, 4)) + np.float32(0.1), np.float32(exponent))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Relu", {}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("Elu", {}),
        ("Elu", {"alpha": 2.0}),
        ("Selu", {}),
        ("Celu", {"alpha": 1.5}),
        ("HardSwish", {}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Exp", {}),
        ("Neg", {}),
        ("Abs", {}),
        ("Sign", {}),
        ("Floor", {}),
        ("Ceil", {}),
        ("Round", {}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("Erf", {}),
        ("Sin", {}),
        ("Cos", {}),
        ("Identity", {}),
        ("Mish", {}),
        ("ThresholdedRelu", {"alpha": 0.5}),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,), ()])
def test_unary(check_node, rand, op, attributes, shape):
    check_node(op, 3 * rand(*shape), **attributes)


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Reciprocal"])
def test_unary_of_positive_numbers(check_node, rand, op):
    check_node(op, np.abs(rand(2, 3, 4)) + np.float32(0.1))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(check_node, rand, approximate):
    check_node("Gelu", 3 * rand(2, 3, 4, 5), approximate=approximate, opset=20)


@pytest.mark.parametrize("order", ["half_last", "half_first", "half_on_x"])
def test_gelu_spelled_out_by_an_exporter_is_one_operator(make_model, compare, rand, order):
    from onnx import helper

    feeds = {"x": 2 * rand(2, 3, 8)}
    constants = {"r": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    erf = [
        helper.make_node("Div", ["x", "r"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["a"]),
    ]
    tail = {
        "half_last": [helper.make_node("Mul", ["x", "a"], ["m"]), helper.make_node("Mul", ["m", "half"], ["y"])],
        "half_first": [helper.make_node("Mul", ["half", "a"], ["m"]), helper.make_node("Mul", ["x", "m"], ["y"])],
        "half_on_x": [helper.make_node("Mul", ["x", "half"], ["h"]), helper.make_node("Mul", ["h", "a"], ["y"])],
    }[order]
    lowered = compare(make_model([*erf, *tail], feeds, constants), feeds)
    assert [op.kind for op in lowered.builder.operators] == ["GELU"]


def test_hard_swish_spelled_out_is_one_operator(make_model, compare, rand):
    from onnx import helper

    feeds = {"x": 3 * rand(2, 3, 8)}
    nodes = [
        helper.make_node("HardSigmoid", ["x"], ["h"], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["x", "h"], ["y"]),
    ]
    lowered = compare(make_model(nodes, feeds), feeds)
    assert [op.kind for op in lowered.builder.operators] == ["HARD_SWISH"]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 6), (0, None), (None, 6), (-1, 1), (0, 1), (-0.5, 0.7), (None, None), (0, 3.4e38)]
)
def test_clip(check_node, rand, low, high):
    limits = [None if limit is None else np.float32(limit) for limit in (low, high)]
    check_node("Clip", 4 * rand(2, 3, 4, 5), *limits)


def test_clip_of_opset_6(check_node, rand):
    check_node("Clip", 4 * rand(2, 3), min=0.0, max=6.0, opset=10)


@pytest.mark.parametrize("slope", [(1,), (3, 1, 1), (3, 4, 5), (1, 5)])
def test_prelu(check_node, rand, slope):
    check_node("PRelu", rand(2, 3, 4, 5), rand(*slope))
    check_node("PRelu", rand(2, 3, 4, 5), rand(*slope), data=2)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("shape", "axis", "opset"),
    [((2, 3, 4, 5), 1, 18), ((2, 3, 4, 5), -1, 18), ((2, 2, 4, 5), 1, 18), ((6,), 0, 18), ((2, 3, 4), 0, 18),
     ((2, 2, 3, 2, 4), 2, 18), ((2, 3, 4), 1, 11), ((2, 3, 1, 1), 1, 11)],
)  # fmt: skip
def test_softmax(check_node, rand, op, shape, axis, opset):
    check_node(op, 3 * rand(*shape), axis=axis, opset=opset)


@pytest.mark.parametrize("source", [np.float32, np.int32, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("target", [np.float32, np.int32, np.int64, np.uint8, np.bool_])
def test_cast(check_node, source, target):
    from onnx import helper

    values = np.array([0, 1, 2.7, 100.2, 0.3]).astype(source)
    check_node("Cast", values, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))


def test_float64_is_refused_by_name(check_node, rand):
    with pytest.raises(GraphError, match="input 'in0' cannot be a TFLite input: a value is float64"):
        check_node("Relu", rand(3).astype(np.float64))
