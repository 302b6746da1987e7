"""Confusion matrices and what is read off them."""

from __future__ import annotations

import numpy as np

from edgeseg.core.arrays import Array


def confusion(truth: Array, predicted: Array, classes: int, *, ignore: int = 255) -> Array:
    """Count pixels by true and predicted class.

    Args:
        truth: [H, W], uint8 class indices; pixels equal to `ignore` count nowhere.
        predicted: [H, W], uint8 class indices.
        classes: Number of classes C.
        ignore: The code in `truth` to leave out.

    Returns:
        [C, C], int64: rows are true classes, columns predicted ones.
    """
    if classes == 2:
        # Counting set bits is several times faster than a general histogram, and two classes are the common case.
        valid = truth != ignore
        real = truth == 1
        said = predicted == 1
        both = int(np.count_nonzero(real & said))
        total = int(np.count_nonzero(valid))
        real_count = int(np.count_nonzero(real))
        said_count = int(np.count_nonzero(said & valid))
        return np.array(
            [[total - real_count - said_count + both, said_count - both], [real_count - both, both]], dtype=np.int64
        )
    keep = truth != ignore
    pairs = truth[keep].astype(np.int64) * classes + predicted[keep]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def iou(matrix: Array) -> Array:
    """IoU of each class: intersection / union; NaN for a class that is in neither truth nor prediction.

    Args:
        matrix: [C, C] from `confusion`, of one image or summed over a data set.

    Returns:
        [C], float64.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    both = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, both / union, np.nan)


def mean_iou(matrix: Array) -> float:
    """mIoU: the mean IoU over the classes that occur.

    Of a matrix summed over a data set this is the dataset mIoU; the mean of per-image values is another number.
    """
    values = iou(matrix)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def accuracy(matrix: Array) -> float:
    """Share of pixels with the right class."""
    total = float(matrix.sum())
    return float(np.trace(matrix)) / total if total else float("nan")
