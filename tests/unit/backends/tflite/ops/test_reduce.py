"""Reductions, norms and matrix products against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

I64 = np.int64


@pytest.mark.parametrize(
    "op",
    ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
     "ReduceLogSumExp"],
)  # fmt: skip
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduce(check_node, rand, op, keepdims):
    for axes in ([1], [2, 3], [-1], [0, 1, 2, 3]):
        check_node(op, rand(2, 3, 4, 5), np.array(axes, I64), keepdims=keepdims)


def test_reduce_of_everything_and_of_nothing(check_node, rand):
    check_node("ReduceSum", rand(2, 3, 4))
    check_node("ReduceSum", rand(2, 3, 4), noop_with_empty_axes=1)
    check_node("ReduceMean", rand(2, 3, 4), axes=[1], opset=13)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arg(check_node, rand, op, axis):
    for keepdims in (0, 1):
        check_node(op, rand(2, 3, 4, 5), axis=axis, keepdims=keepdims)
    check_node(op, np.round(rand(2, 3, 4)), axis=axis, select_last_index=1)


def test_cumulative_sum(check_node, rand):
    check_node("CumSum", rand(2, 3, 4), np.array(1, I64))
    check_node("CumSum", rand(2, 3, 4), np.array(-1, I64), exclusive=1, reverse=1)


def test_instance_group_and_layer_norm(check_node, rand):
    check_node("InstanceNormalization", rand(2, 4, 5, 6), rand(4), rand(4))
    check_node("InstanceNormalization", rand(2, 4, 5), rand(4), rand(4))
    check_node("GroupNormalization", rand(2, 6, 4, 5), rand(6), rand(6), num_groups=3, opset=21)
    check_node("LayerNormalization", rand(2, 4, 6), rand(6), rand(6))
    check_node("LayerNormalization", rand(2, 4, 6), rand(4, 6), axis=1)
    check_node("LpNormalization", rand(2, 4, 6), axis=1, p=2)


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("data", [1, 2])
def test_gemm(check_node, rand, trans_a, trans_b, data):
    a, b = rand(*((4, 3) if trans_a else (3, 4))), rand(*((5, 4) if trans_b else (4, 5)))
    for c in (None, rand(5), rand(3, 5), rand(3, 1)):
        check_node("Gemm", a, b, c, data=data, transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 6, 3, 4), (2, 6, 4, 5)),
        ((2, 1, 3, 4), (6, 4, 5)),
        ((2, 2, 2, 3, 4), (2, 1, 2, 4, 5)),
        ((4,), (4, 5)),
        ((2, 3, 4), (4,)),
        ((4,), (4,)),
    ],
)
def test_matmul(check_node, rand, a, b):
    check_node("MatMul", rand(*a), rand(*b))
    check_node("MatMul", rand(*a), rand(*b), data=2)


@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [
        ("bchw,dc->bdhw", (1, 4, 3, 5), (6, 4)),
        ("bhwc,bkc->bhwk", (2, 3, 4, 5), (2, 6, 5)),
        ("ij,jk->ki", (3, 4), (4, 5)),
    ],
)
def test_einsum(check_node, rand, equation, a, b):
    check_node("Einsum", rand(*a), rand(*b), equation=equation)
    check_node("Einsum", rand(*a), rand(*b), data=2, equation=equation)


def test_attention_reads_a_transposed_key_in_place(make_model, compare, rand):
    from onnx import helper

    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "t"], ["y"]),
    ]
    feeds = {"q": rand(1, 2, 5, 4), "k": rand(1, 2, 6, 4)}
    lowered = compare(make_model(nodes, feeds), feeds)
    assert [op.kind for op in lowered.builder.operators] == ["BATCH_MATMUL"]
