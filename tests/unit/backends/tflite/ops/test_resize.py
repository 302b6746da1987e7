"""Resize in all its flavours against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import GraphError

TRANSFORMS = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]
SIZES = [(14, 16), (7, 8), (5, 3), (21, 9), (13, 11), (1, 1), (7, 16)]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES)
def test_linear(check_node, rand, transform, size):
    check_node(
        "Resize", rand(1, 3, 7, 8), None, None, np.array([1, 3, *size], np.int64),
        mode="linear", coordinate_transformation_mode=transform,
    )  # fmt: skip


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest(check_node, rand, transform, rounding):
    for size in SIZES:
        check_node(
            "Resize", rand(1, 2, 7, 8), None, None, np.array([1, 2, *size], np.int64),
            mode="nearest", coordinate_transformation_mode=transform, nearest_mode=rounding,
        )  # fmt: skip


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES[:5])
def test_cubic(check_node, rand, transform, size):
    check_node(
        "Resize", rand(2, 3, 7, 8), None, None, np.array([2, 3, *size], np.int64),
        mode="cubic", coordinate_transformation_mode=transform,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(check_node, rand, mode):
    check_node("Resize", rand(1, 3, 12, 10), None, None, np.array([1, 3, 5, 4], np.int64), mode=mode, antialias=1)


def test_scales_of_a_fraction(check_node, rand):
    check_node("Resize", rand(1, 3, 7, 8), None, np.array([1, 1, 1.7, 2.3], np.float32), mode="linear")


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(check_node, rand, mode):
    check_node("Upsample", rand(1, 3, 5, 6), np.array([1, 1, 2, 3], np.float32), mode=mode, opset=9)


def test_resize_of_opset_10(check_node, rand):
    check_node("Resize", rand(1, 3, 5, 6), np.array([1, 1, 2, 2], np.float32), mode="nearest", opset=10)


def test_linear_of_channels(check_node, rand):
    check_node("Resize", rand(1, 4, 5), None, None, np.array([1, 6, 9], np.int64), mode="linear")


def test_the_cheap_operator_is_taken_where_it_is_exact(check_node, rand):
    lowered = check_node("Resize", rand(1, 3, 7, 8), None, np.array([1, 1, 2, 2], np.float32), mode="linear")
    assert "RESIZE_BILINEAR" in [op.kind for op in lowered.builder.operators]


def test_crop_and_resize_is_refused(check_node, rand):
    roi = np.array([0, 0, 0.2, 0.2, 1, 1, 0.8, 0.8], np.float32)
    with pytest.raises(GraphError, match=r"Resize 'the_node'.*tf_crop_and_resize"):
        check_node(
            "Resize", rand(1, 3, 7, 8), roi, None, np.array([1, 3, 5, 5], np.int64),
            mode="linear", coordinate_transformation_mode="tf_crop_and_resize",
        )  # fmt: skip
