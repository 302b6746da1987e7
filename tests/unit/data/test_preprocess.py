import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.core.errors import GraphError
from edgeseg.core.spec import ModelSpec
from edgeseg.data.preprocess import resize_bilinear, resize_nearest, to_input, to_mask

SIDES = st.integers(2, 40)  # OpenCV 5 takes another way for single columns


def spec(**changes):
    fields = {"name": "n", "width": 20, "height": 12, "input_name": "x", "output_name": "y"}
    return ModelSpec(**{**fields, **changes})


@settings(max_examples=100)
@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_bilinear_is_what_opencv_calls_linear(height, width, new_height, new_width, seed):
    plane = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    expected = cv2.resize(plane, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(resize_bilinear(plane, new_height, new_width), expected, atol=2e-6)


def test_bilinear_leaves_its_input_alone():
    plane = np.random.default_rng(0).normal(size=(2, 9, 9)).astype(np.float32)
    before = plane.copy()
    resize_bilinear(plane, 5, 13)
    np.testing.assert_array_equal(plane, before)


def test_nearest_keeps_labels():
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    np.testing.assert_array_equal(resize_nearest(labels, 4, 4), np.kron(labels, np.ones((2, 2), np.uint8)))


def test_to_input_normalises_each_channel_in_the_order_of_the_network():
    image = np.zeros((12, 20, 3), np.uint8)
    image[...] = (255, 51, 0)
    rgb = to_input(image, spec(mean=(0.5, 0.2, 0.0), std=(0.5, 0.1, 2.0)))
    assert rgb.shape == (1, 3, 12, 20)
    assert rgb.dtype == np.float32
    np.testing.assert_allclose(rgb[0, :, 0, 0], [1.0, 0.0, 0.0], atol=1e-6)
    bgr = to_input(image, spec(color="bgr", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    np.testing.assert_allclose(bgr[0, :, 0, 0], [0.0, 0.2, 1.0], atol=1e-6)


def test_to_input_layouts_hold_the_same_values():
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    nchw = to_input(image, spec())
    nhwc = to_input(image, spec(input_layout="nhwc"))
    assert nhwc.shape == (1, 12, 20, 3)
    assert nhwc.flags.c_contiguous
    np.testing.assert_array_equal(nhwc.transpose(0, 3, 1, 2), nchw)


def test_to_input_as_uint8_is_the_resized_picture():
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
    tensor = to_input(image, spec(input_dtype="uint8", input_layout="nhwc"))
    assert tensor.dtype == np.uint8
    np.testing.assert_array_equal(tensor[0], image)


def test_a_float_picture_is_refused():
    with pytest.raises(GraphError, match=r"\[H, W, 3\] uint8"):
        to_input(np.zeros((4, 4, 3), np.float32), spec())


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from(["nchw", "nhwc"]))
def test_to_mask_is_argmax_of_the_resized_scores(seed, channels, layout):
    scores = np.random.default_rng(seed).normal(size=(channels, 12, 20)).astype(np.float32)
    resized = np.stack([cv2.resize(plane, (33, 17)) for plane in scores])
    expected = (resized[0] > 0) if channels == 1 else resized.argmax(axis=0)
    output = scores[None] if layout == "nchw" else scores.transpose(1, 2, 0)[None]
    mask = to_mask(output, spec(output_channels=channels, output_layout=layout), 17, 33)
    assert mask.dtype == np.uint8
    assert (mask != expected).mean() < 0.005  # a score may be within rounding of another


def test_one_channel_of_probabilities_is_cut_at_one_half():
    output = np.array([[[[0.4, 0.6], [0.5, 0.51]]]], np.float32)
    mask = to_mask(output, spec(output_channels=1, output_kind="probabilities"), 2, 2)
    np.testing.assert_array_equal(mask, [[0, 1], [0, 1]])


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 1, 2, 3), (1, 2, 3, 1)])
def test_labels_of_any_rank_are_resized_to_the_nearest(shape):
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.int64).reshape(shape)
    mask = to_mask(labels, spec(output_kind="labels"), 4, 6)
    np.testing.assert_array_equal(mask, np.kron(labels.reshape(2, 3), np.ones((2, 2), int)))


def test_an_output_of_another_shape_is_an_error():
    with pytest.raises(GraphError, match="2 x H x W scores were expected"):
        to_mask(np.zeros((1, 3, 4, 4), np.float32), spec(), 4, 4)
    with pytest.raises(GraphError, match="batch of one"):
        to_mask(np.zeros((2, 2, 4, 4), np.float32), spec(), 4, 4)


def test_the_two_class_shortcut_equals_argmax_of_softmax():
    logits = np.random.default_rng(3).normal(size=(1, 2, 12, 20)).astype(np.float32) * 4
    odds = np.exp(logits)
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    from_logits = to_mask(logits, spec(), 12, 20)
    from_probabilities = to_mask(probabilities, spec(output_kind="probabilities"), 12, 20)
    np.testing.assert_array_equal(from_logits, logits[0].argmax(axis=0))
    np.testing.assert_array_equal(from_probabilities, from_logits)


def test_int8_tensors_hold_the_same_numbers():
    from dataclasses import replace

    from edgeseg.core.spec import ModelSpec, Stored
    from edgeseg.data.preprocess import scores, to_input

    spec = ModelSpec("net", 16, 12, "image", "scores")
    stored = replace(spec, input_stored=Stored(2 / 255, 1), output_stored=Stored(0.05, -128))
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    real, held = to_input(image, spec), to_input(image, stored)
    assert held.dtype == np.int8
    assert np.abs((held.astype(np.float32) - 1) * (2 / 255) - real)[held < 127].max() <= 1 / 255 + 1e-6
    output = np.random.default_rng(1).integers(-128, 128, (1, 2, 12, 16)).astype(np.int8)
    expected = 0.05 * (output[0, 1].astype(np.float32) - output[0, 0])
    assert np.allclose(scores(output, stored)[0], expected, atol=1e-5)
