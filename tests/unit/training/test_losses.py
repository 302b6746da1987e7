from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")

import torch

from edgeseg.training.losses import IGNORE, cross_entropy, lovasz_softmax


def jaccard_loss(truth, wrong):
    """The set function that Lovász extends: IoU lost when exactly the pixels in `wrong` are misclassified."""
    truth = set(np.flatnonzero(truth))
    both = len(truth - wrong)
    union = len(truth | wrong)
    return 1 - both / union if union else 0.0


def lovasz_by_definition(errors, truth):
    """sum of sorted errors times the growth of the set function, one pixel at a time."""
    order = np.argsort(-errors, kind="stable")
    total, wrong = 0.0, set()
    for place in order:
        grown = wrong | {int(place)}
        total += errors[place] * (jaccard_loss(truth, grown) - jaccard_loss(truth, wrong))
        wrong = grown
    return total


@pytest.mark.parametrize("seed", range(5))
def test_lovasz_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(2, 3, 4, 5)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 3, (2, 4, 5)))
    q = logits.softmax(dim=1).permute(0, 2, 3, 1).reshape(-1, 3).numpy().astype(np.float64)
    truth = labels.flatten().numpy()
    expected = np.mean(
        [
            lovasz_by_definition(np.abs((truth == index) - q[:, index]), truth == index)
            for index in range(3)
            if (truth == index).any()
        ]
    )
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(expected, abs=1e-5)


def test_lovasz_of_a_sure_mask_is_the_iou_lost():
    for bits in itertools.product((0, 1), repeat=4):
        labels = torch.tensor([[[1, 1, 0, 0]]])
        margin = torch.tensor(bits, dtype=torch.float32) * 200 - 100
        logits = torch.stack([-margin, margin]).view(1, 2, 1, 4)
        truth, said = np.array([1, 1, 0, 0]), np.array(bits)
        ious = [((truth == c) & (said == c)).sum() / ((truth == c) | (said == c)).sum() for c in (0, 1)]
        assert float(lovasz_softmax(logits, labels)) == pytest.approx(1 - np.mean(ious), abs=1e-6)


def test_ignored_pixels_and_nothing_but_them():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(1, 2, 6, 6)).astype(np.float32)).requires_grad_()
    labels = torch.from_numpy(rng.integers(0, 2, (1, 6, 6)))
    labels[:, :3] = IGNORE
    for loss in (cross_entropy, lovasz_softmax):
        expected = float(loss(logits[:, :, 3:], labels[:, 3:]).detach())
        assert float(loss(logits, labels).detach()) == pytest.approx(expected, abs=1e-6)
        nothing = loss(logits, torch.full_like(labels, IGNORE))
        assert float(nothing.detach()) == 0.0
        nothing.backward()
