"""Quantise and dequantise against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import GraphError


@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 128), (np.int8, -3), (np.uint8, 0)])
def test_a_pair_on_an_activation(make_model, compare, rand, dtype, zero):
    from onnx import helper

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    feeds = {"x": rand(1, 3, 4, 5)}
    constants = {"s": np.float32(0.05), "z": np.array(zero, dtype)}
    lowered = compare(make_model(nodes, feeds, constants), feeds)
    assert [op.kind for op in lowered.builder.operators] == ["QUANTIZE", "DEQUANTIZE"]
    [stored] = [tensor for tensor in lowered.builder.tensors if tensor.quantization is not None]
    assert stored.quantization.zero_point == (zero,)
    assert stored.dtype == dtype


def test_weights_quantised_per_channel(make_model, compare, rand):
    from onnx import helper

    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"], axis=0),
        helper.make_node("Conv", ["x", "f"], ["y"]),
    ]
    feeds = {"x": rand(1, 3, 4, 5)}
    weights = np.random.default_rng(0).integers(-127, 127, (4, 3, 1, 1)).astype(np.int8)
    constants = {"w": weights, "s": np.abs(rand(4)) / 100, "z": np.zeros(4, np.int8)}
    compare(make_model(nodes, feeds, constants), feeds)


def test_an_activation_quantised_per_channel_is_refused(check_node, rand):
    with pytest.raises(GraphError, match="QuantizeLinear 'the_node': it quantises an activation per channel"):
        check_node("QuantizeLinear", rand(1, 3, 4), np.abs(rand(3)), np.zeros(3, np.int8), axis=1)


@pytest.mark.parametrize("kind", ["Sigmoid", "Add", "Mul"])
def test_pairs_that_no_integer_kernel_fits_stay_in_float(make_model, compare, rand, kind):
    """LOGISTIC writes one scale only, and what ADD and MUL of integers combine with constants is one number."""
    from onnx import helper

    feeds = {"x": rand(1, 3, 4, 5)}
    constants = {
        "s": np.float32(0.05), "z": np.int8(3), "c": np.array([[[1]], [[50]], [[-90]]], np.int8), "cs": np.float32(0.01),
        "cz": np.int8(0), "os": np.float32(0.0213), "oz": np.int8(-20),
    }  # fmt: skip
    given = ["x.d"] if kind == "Sigmoid" else ["x.d", "c.d"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x.q"]),
        helper.make_node("DequantizeLinear", ["x.q", "s", "z"], ["x.d"]),
        helper.make_node("DequantizeLinear", ["c", "cs", "cz"], ["c.d"]),
        helper.make_node(kind, given, ["f"]),
        helper.make_node("QuantizeLinear", ["f", "os", "oz"], ["y.q"]),
        helper.make_node("DequantizeLinear", ["y.q", "os", "oz"], ["y"]),
    ]
    lowered = compare(make_model(nodes if kind != "Sigmoid" else nodes[:2] + nodes[3:], feeds, constants), feeds)
    kinds = [op.kind for op in lowered.builder.operators]
    assert kinds.count("DEQUANTIZE") == 2
    [op] = [op for op in lowered.builder.operators if op.kind in ("LOGISTIC", "ADD", "MUL")]
    assert lowered.builder.tensors[op.outputs[0]].dtype == np.float32
