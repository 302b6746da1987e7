"""SCL, the semantic connectivity-aware loss of PP-HumanSeg, with a gradient.

Source: Chu et al., "PP-HumanSeg: Connectivity-Aware Portrait Segmentation with a Large-Scale Teleconferencing Video
Dataset" (arXiv 2112.07146).

For one class, let P1..Pp be the connected components of the prediction and G1..Gg those of the ground truth. A pair
counts where the two overlap. The connectivity of a G is the mean IoU over the P paired with it; the connectivity of
the image is the sum over all G divided by (g + number of P paired with nothing); the loss is 1 minus that.

What is differentiated. Components come from an argmax, which has no gradient, and if IoUs are then counted in pixels
the loss is a constant to the optimiser. Here the components only say *which pixels belong together*; everything that
is counted is a sum of the class's probabilities q, so that every pixel hears what it should do:

- the intersection of P_i and G_j is the sum of q over P_i ∩ G_j plus q over the part of G_j that no component covers:
  pixels torn out of the mask are pulled up;
- the size of P_i is the sum of q over P_i, plus q over that same uncovered part of G_j (so that the union stays a
  union); pixels of P_i outside of G_j are pushed down;
- an unpaired P_i counts with its mean q instead of 1: an island is pushed down as a whole.

Where q is 0 or 1 everywhere, all of this is exactly the definition above: the loss equals 1 minus the measure
`edgeseg.metrics.connectivity`. Which components exist is taken as given at each step, as it is in any loss with a
matching.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgeseg.core.arrays import Array
from edgeseg.training.losses import IGNORE

MAX_COMPONENTS = 10
"""How many predicted components of a class are looked at, the largest first: an untrained network predicts hundreds."""


def scl(logits: Tensor, labels: Tensor, *, max_components: int = MAX_COMPONENTS) -> Tensor:
    """The loss, averaged over images and over the classes that occur on either side.

    Args:
        logits: ``[N, C, H, W]``.
        labels: ``[N, H, W]`` int64, class indices or `IGNORE`.
        max_components: Predicted components looked at for each class and image; pixels of the others count nowhere.

    Returns:
        A scalar, 0 (perfect) to 2.
    """
    probabilities = logits.softmax(dim=1)
    predicted = probabilities.detach().argmax(dim=1).numpy()
    truth = labels.numpy()
    losses = []
    for image in range(logits.shape[0]):
        valid = truth[image] != IGNORE
        for index in range(logits.shape[1]):
            loss = _class_loss(
                probabilities[image, index].flatten(),
                (predicted[image] == index) & valid,
                (truth[image] == index) & valid,
                valid,
                max_components,
            )
            if loss is not None:
                losses.append(loss)
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def _components(mask: Array, limit: int) -> tuple[Array, int]:
    """Labels from 1 on, largest first and -1 for those beyond `limit` (0: no limit), and how many are left."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.asarray(mask, np.uint8), connectivity=8)
    if limit == 0 or count - 1 <= limit:
        return labels, count - 1
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:limit] + 1
    renamed = np.full(count, -1, np.int32)
    renamed[0] = 0
    renamed[order] = np.arange(1, limit + 1)
    return renamed[labels], limit


def _class_loss(q: Tensor, predicted: Array, truth: Array, valid: Array, limit: int) -> Tensor | None:
    """The loss of one class in one image; None where neither side has it. `q` is flat, the masks ``[H, W]`` bool."""
    real, g = _components(truth, 0)
    said, p = _components(predicted, limit)
    if g == 0 and p == 0:
        return None
    if g == 0 or p == 0:
        # The paper's start of training: a plain area term, because there is nothing to pair.
        side = torch.from_numpy((truth if p == 0 else predicted).ravel())
        wrong = 1 - q[side] if p == 0 else q[side]
        return 1 + wrong.sum() / int(valid.sum())
    outside = (g + 1) * (p + 1)  # a bin for what counts nowhere
    codes = np.where(valid & (said >= 0), real * (p + 1) + said, outside).ravel().astype(np.int64)
    counts = np.bincount(codes, minlength=outside + 1)[:outside].reshape(g + 1, p + 1)
    soft = q.new_zeros(outside + 1).index_add(0, torch.from_numpy(codes), q)[:outside].view(g + 1, p + 1)
    overlaps = counts[1:, 1:] > 0
    partners = overlaps.sum(axis=1)
    rows, columns = (torch.from_numpy(part + 1) for part in np.nonzero(overlaps))
    uncovered = soft[rows, 0]
    both = soft[rows, columns] + uncovered
    said_area = soft.sum(dim=0)[columns] + uncovered
    real_area = torch.from_numpy(counts.sum(axis=1).astype(np.float32))[rows]
    iou = both / (real_area + said_area - both).clamp(min=1e-6)
    mean = iou / torch.from_numpy(np.maximum(partners, 1).astype(np.float32))[rows - 1]
    unpaired = np.flatnonzero(~overlaps.any(axis=0)) + 1
    sizes = torch.from_numpy(counts.sum(axis=0)[unpaired].astype(np.float32))
    islands = (soft.sum(dim=0)[torch.from_numpy(unpaired)] / sizes).sum()
    return 1 - mean.sum() / (g + islands)
