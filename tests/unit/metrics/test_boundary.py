import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.metrics.boundary import band, boundary_counts


def eroded_band(mask, d):
    """The authors' definition: the mask without its erosion by a 3 x 3 square, d times, in a padded picture."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return mask - cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=d)[1:-1, 1:-1]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.1))
def test_the_band_is_the_mask_without_its_erosion(seed, ratio):
    random = np.random.default_rng(seed)
    mask = (cv2.GaussianBlur(random.random((60, 80)), (0, 0), 4) > 0.5).astype(np.uint8)
    d = max(1, round(ratio * np.hypot(60, 80)))
    np.testing.assert_array_equal(band(mask, ratio=ratio), eroded_band(mask, d))


def test_equal_masks_and_disjoint_masks():
    left = np.zeros((50, 50), np.uint8)
    left[:, :20] = 1
    right = np.zeros((50, 50), np.uint8)
    right[:, 40:] = 1
    both, either = boundary_counts(left, left)
    assert both == either > 0
    assert boundary_counts(left, right)[0] == 0


def test_a_shift_costs_more_boundary_iou_than_iou():
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 20:80] = 1
    shifted = np.roll(mask, 1, axis=1)
    both, either = boundary_counts(mask, shifted)
    iou = np.count_nonzero(mask & shifted) / np.count_nonzero(mask | shifted)
    assert both / either < iou < 1


def test_ignored_pixels_count_nowhere():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    truth = mask.copy()
    truth[:, 20:] = 255
    predicted = mask.copy()
    predicted[:, 20:] = 0
    both, either = boundary_counts(truth, predicted)
    assert both == either
