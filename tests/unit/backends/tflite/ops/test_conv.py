"""Convolutions against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("size", [(9, 12), (8, 7)])
@pytest.mark.parametrize(
    ("group", "attributes"),
    [
        (1, {}),
        (1, {"pads": [1, 1, 1, 1]}),
        (1, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        (1, {"pads": [0, 1, 2, 3], "strides": [1, 2]}),
        (1, {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        (1, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        (1, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        (1, {"auto_pad": "VALID", "strides": [2, 1]}),
        (2, {"pads": [1, 1, 1, 1]}),
        (4, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        (4, {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    ],
)
def test_conv(check_node, rand, size, group, attributes):
    check_node("Conv", rand(1, 4, *size), rand(8, 4 // group, 3, 3), rand(8), group=group, **attributes)


def test_conv_without_bias_and_with_a_batch(check_node, rand):
    check_node("Conv", rand(3, 4, 6, 6), rand(5, 4, 1, 1))


def test_conv_of_one_dimension(check_node, rand):
    check_node("Conv", rand(2, 4, 11), rand(6, 4, 3), rand(6), pads=[1, 2], strides=[2])


def test_padding_that_tflite_calls_same_needs_no_pad(check_node, rand):
    lowered = check_node("Conv", rand(1, 4, 8, 8), rand(4, 4, 3, 3), pads=[1, 1, 1, 1])
    assert "PAD" not in [op.kind for op in lowered.builder.operators]


@pytest.mark.parametrize(
    ("group", "attributes"),
    [
        (1, {}),
        (1, {"strides": [2, 2]}),
        (1, {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        (1, {"strides": [2, 2], "pads": [0, 1, 1, 2]}),
        (1, {"strides": [2, 3], "output_padding": [1, 2]}),
        (1, {"dilations": [2, 2]}),
        (1, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        (1, {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        (1, {"strides": [2, 2], "output_shape": [10, 13]}),
        (2, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        (4, {"strides": [2, 2]}),
    ],
)
def test_conv_transpose(check_node, rand, group, attributes):
    check_node("ConvTranspose", rand(1, 4, 5, 6), rand(4, 8 // group, 3, 3), rand(8), group=group, **attributes)


def test_conv_transpose_of_one_dimension(check_node, rand):
    check_node("ConvTranspose", rand(1, 3, 7), rand(3, 4, 4), rand(4), strides=[2], pads=[1, 1])


def test_batch_norm_alone(check_node, rand):
    check_node("BatchNormalization", rand(2, 5, 4, 3), rand(5), rand(5), rand(5), np.abs(rand(5)) + 0.1)


def test_batch_norm_and_relu_disappear_into_a_convolution(make_model, compare, rand):
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    feeds = {"x": rand(1, 3, 8, 8)}
    constants = {"w": rand(4, 3, 3, 3), "s": rand(4), "b": rand(4), "m": rand(4), "v": np.abs(rand(4)) + 0.1}
    orders = {"x": (0, 2, 3, 1), "y": (0, 2, 3, 1)}
    lowered = compare(make_model(nodes, feeds, constants), feeds, orders=orders)
    assert [op.kind for op in lowered.builder.operators] == ["CONV_2D"]
    assert lowered.builder.operators[0].options["fusedActivationFunction"] == "RELU"


def test_a_chain_of_linear_convolutions_becomes_one(make_model, compare, rand):
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["p", "b"], ["q"]),
        helper.make_node("Resize", ["q", "", "scales"], ["r"], mode="linear"),
        helper.make_node("Conv", ["r", "c"], ["s"]),
        helper.make_node("Conv", ["s", "d"], ["t"]),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    feeds = {"x": rand(1, 3, 8, 8)}
    weights = {"a": rand(8, 3, 3, 3), "b": rand(6, 8, 1, 1), "c": rand(4, 6, 1, 1), "d": rand(4, 4, 1, 1)}
    constants = {**weights, "scales": np.array([1, 1, 2, 2], np.float32)}
    orders = {"x": (0, 2, 3, 1), "y": (0, 2, 3, 1)}
    lowered = compare(make_model(nodes, feeds, constants), feeds, orders=orders)
    assert [op.kind for op in lowered.builder.operators] == ["PAD", "CONV_2D", "RESIZE_BILINEAR", "RELU"]


def test_two_linear_convolutions_around_a_resize_become_one(make_model, compare, rand):
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Resize", ["c", "", "scales"], ["r"], mode="linear"),
        helper.make_node("Softmax", ["r"], ["y"], axis=1),
    ]
    feeds = {"x": rand(1, 8, 6, 6)}
    constants = {"w": rand(2, 8, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32)}
    orders = {"x": (0, 2, 3, 1), "y": (0, 2, 3, 1)}
    lowered = compare(make_model(nodes, feeds, constants), feeds, orders=orders)
    assert [op.kind for op in lowered.builder.operators] == ["CONV_2D", "RESIZE_BILINEAR", "LOGISTIC"]
