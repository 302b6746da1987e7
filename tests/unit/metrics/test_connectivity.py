import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.metrics.connectivity import class_connectivity, connectivity


def slow(truth, predicted):
    """The definition, read aloud."""
    g, real = cv2.connectedComponents(truth.astype(np.uint8))
    p, said = cv2.connectedComponents(predicted.astype(np.uint8))
    real_parts = [real == index for index in range(1, g)]
    said_parts = [said == index for index in range(1, p)]
    if not real_parts and not said_parts:
        return None
    paired = [False] * len(said_parts)
    total = 0.0
    for one in real_parts:
        ious = []
        for index, other in enumerate(said_parts):
            iou = (one & other).sum() / (one | other).sum()
            if iou > 0:
                ious.append(iou)
                paired[index] = True
        total += sum(ious) / len(ious) if ious else 0.0
    return total / (len(real_parts) + paired.count(False))


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.floats(0.6, 4), st.floats(0.3, 0.7), st.floats(0.3, 0.7))
def test_equals_the_definition(seed, blur, low, high):
    random = np.random.default_rng(seed)
    truth = cv2.GaussianBlur(random.random((24, 32)), (0, 0), blur) > low
    predicted = cv2.GaussianBlur(random.random((24, 32)), (0, 0), blur) > high
    expected = slow(truth, predicted)
    measured = class_connectivity(truth, predicted)
    assert measured == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_many_pieces_take_the_sparse_way_and_agree():
    random = np.random.default_rng(0)
    truth = random.random((40, 40)) > 0.8
    predicted = random.random((40, 40)) > 0.8
    assert class_connectivity(truth, predicted) == pytest.approx(slow(truth, predicted), abs=1e-12)


def test_a_torn_mask_keeps_its_iou_and_loses_connectivity():
    truth = np.zeros((60, 60), bool)
    truth[10:50, 10:50] = True
    torn = truth.copy()
    torn[29:31, :] = False
    iou = (truth & torn).sum() / (truth | torn).sum()
    assert iou == pytest.approx(0.95)
    assert class_connectivity(truth, torn) == pytest.approx(0.475)


def test_islands_cost():
    truth = np.zeros((60, 60), bool)
    truth[10:40, 10:40] = True
    islands = truth.copy()
    islands[50, 50] = islands[55, 5] = True
    assert class_connectivity(truth, islands) == pytest.approx(1 / 3, abs=1e-3)


def test_empty_sides():
    empty, full = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert class_connectivity(empty, empty) is None
    assert class_connectivity(empty, full) == 0.0
    assert class_connectivity(full, empty) == 0.0


def test_an_image_is_the_mean_over_its_classes_and_ignores_what_is_ignored():
    truth = np.zeros((10, 10), np.uint8)
    truth[:, 5:] = 1
    assert connectivity(truth, truth, 2) == 1.0
    predicted = truth.copy()
    predicted[:, 5] = 0
    assert connectivity(truth, predicted, 2) == pytest.approx((50 / 60 + 40 / 50) / 2)
    truth[:, 5] = 255
    assert connectivity(truth, predicted, 2) == 1.0
    assert connectivity(np.full((3, 3), 255, np.uint8), np.zeros((3, 3), np.uint8), 2) is None
