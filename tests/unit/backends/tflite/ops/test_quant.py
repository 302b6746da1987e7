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
