"""Boundary IoU: IoU of the bands along the contours, where conversions do their damage first.

Source: Cheng, Girshick, Dollár, Berg, Kirillov, "Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation", CVPR 2021 (arXiv 2103.16562): the mask's pixels within d of its contour, d = 2 % of the image diagonal.
"""

from __future__ import annotations

import math

import numpy as np

from edgeseg.core.arrays import Array

DILATION_RATIO = 0.02


def band(mask: Array, *, ratio: float = DILATION_RATIO) -> Array:
    """The part of a mask that lies within d pixels of its contour.

    Args:
        mask: [H, W], bool or 0/1.
        ratio: d as a share of the image diagonal.

    Returns:
        [H, W], uint8 0/1. The image's edge counts as contour, as in the authors' definition.
    """
    import cv2

    height, width = mask.shape
    d = max(1, round(ratio * math.hypot(height, width)))
    # One erosion by a square of 2d + 1 is d erosions by a square of 3, and costs as little as one of them.
    solid = np.asarray(mask, np.uint8)
    kernel = np.ones((2 * d + 1, 2 * d + 1), np.uint8)
    return solid - cv2.erode(solid, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def boundary_counts(truth: Array, predicted: Array, *, ignore: int = 255) -> tuple[int, int]:
    """Pixels in both foreground bands and in either of them.

    Args:
        truth: [H, W], uint8 class indices; every class but 0 is foreground.
        predicted: [H, W], uint8 class indices.
        ignore: Pixels of `truth` with this code count nowhere.

    Returns:
        (intersection, union); over a data set both are summed before dividing.
    """
    valid = truth != ignore
    real = band((truth > 0) & valid) & valid
    said = band(predicted > 0) & valid
    return int(np.count_nonzero(real & said)), int(np.count_nonzero(real | said))
