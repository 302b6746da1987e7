"""Pooling against ONNX Runtime."""

from __future__ import annotations

import pytest

WINDOWS = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(9, 12), (8, 7)])
def test_max_pool(check_node, rand, window, size):
    check_node("MaxPool", rand(1, 3, *size) - 3.0, **window)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(check_node, rand, window, include):
    check_node("AveragePool", rand(1, 3, 9, 12), count_include_pad=include, **window)


def test_dilated_max_pool(check_node, rand):
    check_node("MaxPool", rand(1, 3, 10, 11), kernel_shape=[3, 3], dilations=[2, 2], pads=[2, 2, 2, 2])


def test_dilated_average_pool(check_node, rand):
    check_node("AveragePool", rand(1, 3, 10, 11), kernel_shape=[2, 2], dilations=[2, 3], opset=19)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pool(check_node, rand, op):
    check_node(op, rand(2, 3, 5, 4))
    check_node(op, rand(2, 3, 5))
