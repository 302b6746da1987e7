import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.metrics.confusion import accuracy, confusion, iou, mean_iou


def slow(truth, predicted, classes):
    matrix = np.zeros((classes, classes), np.int64)
    for real, said in zip(truth.ravel(), predicted.ravel(), strict=True):
        if real != 255:
            matrix[real, said] += 1
    return matrix


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 5]), st.booleans())
def test_equals_the_obvious_version(seed, classes, with_ignore):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, (7, 9)).astype(np.uint8)
    predicted = random.integers(0, classes, (7, 9)).astype(np.uint8)
    if with_ignore:
        truth[random.random(truth.shape) < 0.3] = 255
    np.testing.assert_array_equal(confusion(truth, predicted, classes), slow(truth, predicted, classes))


def test_known_values():
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    predicted = np.array([[0, 1, 1, 1]], np.uint8)
    matrix = confusion(truth, predicted, 2)
    np.testing.assert_allclose(iou(matrix), [1 / 2, 2 / 3])
    assert mean_iou(matrix) == pytest.approx(7 / 12)
    assert accuracy(matrix) == 0.75


def test_dataset_miou_is_not_the_mean_of_image_mious():
    big = np.zeros((100, 100), np.uint8)
    big[:50] = 1
    small_truth = np.array([[0, 1]], np.uint8)
    small_wrong = np.array([[1, 0]], np.uint8)
    summed = confusion(big, big, 2) + confusion(small_truth, small_wrong, 2)
    assert mean_iou(summed) > 0.999


def test_a_class_that_does_not_occur_does_not_count():
    empty = np.zeros((4, 4), np.uint8)
    matrix = confusion(empty, empty, 2)
    assert np.isnan(iou(matrix)[1])
    assert mean_iou(matrix) == 1.0
    assert np.isnan(mean_iou(np.zeros((2, 2), np.int64)))
