"""Connectivity: whether a mask has the pieces that it should, the measure of PP-HumanSeg's SCL.

Source: Chu et al., "PP-HumanSeg: Connectivity-Aware Portrait Segmentation with a Large-Scale Teleconferencing Video
Dataset", WACV 2022 workshops (arXiv 2112.07146).

The connected components of a class in the prediction, P1..Pp, and in the ground truth, G1..Gg, are paired where their
IoU is above 0. The connectivity of a G is the mean IoU over the P paired with it (0 without any). The connectivity of
the image is the sum over all G, divided by (g + number of P that are paired with nothing). A mask can keep its IoU and
lose connectivity: by torn holes, by islands, by a torn-off hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.metrics.latency import Interval, bootstrap_mean


def class_connectivity(truth: Array, predicted: Array) -> float | None:
    """Connectivity of one class in one image.

    Args:
        truth: [H, W], bool: the class in the ground truth.
        predicted: [H, W], bool: the class in the prediction.

    Returns:
        0 to 1; 0 when exactly one side has the class; None when neither has.
    """
    import cv2

    real_count, real = cv2.connectedComponents(np.asarray(truth, np.uint8), connectivity=8)
    said_count, said = cv2.connectedComponents(np.asarray(predicted, np.uint8), connectivity=8)
    real_count, said_count = real_count - 1, said_count - 1  # label 0 is "not the class"
    if real_count == 0 and said_count == 0:
        return None
    if real_count == 0 or said_count == 0:
        return 0.0
    if real_count == said_count == 1:  # one piece on both sides: connectivity is IoU, and no pairing is needed
        both = int(np.count_nonzero(np.asarray(truth, bool) & np.asarray(predicted, bool)))
        return both / (int(np.count_nonzero(truth)) + int(np.count_nonzero(predicted)) - both)
    return _paired(real, said, real_count, said_count)


def _paired(real: Array, said: Array, real_count: int, said_count: int) -> float:
    """Connectivity from two label images with `real_count` and `said_count` components (labels from 1)."""
    codes = real.ravel().astype(np.int64)
    codes *= said_count + 1
    codes += said.ravel()
    # Noise can have thousands of components: only the pairs that meet are kept, never a full g x p table.
    if (real_count + 1) * (said_count + 1) <= codes.size:
        counts = np.bincount(codes, minlength=(real_count + 1) * (said_count + 1))
        pairs = np.flatnonzero(counts)
        meeting = counts[pairs]
    else:
        pairs, meeting = np.unique(codes, return_counts=True)
    g, p = pairs // (said_count + 1), pairs % (said_count + 1)
    real_area = np.bincount(g, weights=meeting, minlength=real_count + 1)
    said_area = np.bincount(p, weights=meeting, minlength=said_count + 1)
    touching = (g > 0) & (p > 0)
    g, p, overlap = g[touching], p[touching], meeting[touching]
    ious = overlap / (real_area[g] + said_area[p] - overlap)
    total = np.bincount(g, weights=ious, minlength=real_count + 1)[1:]
    partners = np.bincount(g, minlength=real_count + 1)[1:]
    unpaired = said_count - np.unique(p).size
    return float((total / np.maximum(partners, 1)).sum() / (real_count + unpaired))


def connectivity(truth: Array, predicted: Array, classes: int, *, ignore: int = 255) -> float | None:
    """Connectivity of an image: the mean over the classes that occur on either side.

    Args:
        truth: [H, W], uint8 class indices.
        predicted: [H, W], uint8 class indices.
        classes: Number of classes, background included, as in the loss.
        ignore: Pixels of `truth` with this code count nowhere.

    Returns:
        0 to 1; None for an image in which nothing counts.
    """
    valid = truth != ignore
    if not valid.all():
        predicted = np.where(valid, predicted, ignore)
    values = [class_connectivity(truth == index, predicted == index) for index in range(classes)]
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def paired_loss(pairs: Sequence[tuple[float, float]]) -> Interval | None:
    """Connectivity lost from one set of masks to another on the same pictures.

    An island at the threshold comes or goes with the last bits and moves its whole picture, so the loss of few pictures
    is chance to a large part; its interval says to which.

    Args:
        pairs: (before, after) of each picture.

    Returns:
        Mean loss with its 95 % bootstrap interval over pictures; None for fewer than two.
    """
    return bootstrap_mean([before - after for before, after in pairs])
