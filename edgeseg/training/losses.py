"""Cross-entropy and Lovász-softmax; SCL has its own file."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255
"""The label that counts nowhere."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that count; 0 where none does.

    Args:
        logits: ``[N, C, H, W]``.
        labels: ``[N, H, W]`` int64, class indices or `IGNORE`.
    """
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovász-softmax over the classes present: a convex surrogate of the mean IoU loss of the whole batch.

    Source: Berman, Rannen Triki, Blaschko, "The Lovász-Softmax loss", CVPR 2018 (arXiv 1705.08790), equations 8, 9
    and 11: errors sorted downwards, weighted by how much IoU is lost when they are added one by one.

    Args:
        logits: ``[N, C, H, W]``.
        labels: ``[N, H, W]`` int64, class indices or `IGNORE`.
    """
    probabilities = logits.softmax(dim=1).permute(0, 2, 3, 1)
    valid = labels != IGNORE
    probabilities, truth = probabilities[valid], labels[valid]
    losses = []
    for index in range(logits.shape[1]):
        foreground = (truth == index).to(probabilities.dtype)
        total = foreground.sum()
        if total == 0:
            continue
        errors, order = (foreground - probabilities[:, index]).abs().sort(descending=True, stable=True)
        hit = foreground[order]
        jaccard = 1 - (total - hit.cumsum(0)) / (total + (1 - hit).cumsum(0))
        steps = torch.cat((jaccard[:1], jaccard[1:] - jaccard[:-1]))
        losses.append((errors * steps).sum())
    return torch.stack(losses).mean() if losses else logits.sum() * 0
