"""SCL against a slow, obvious version of the definition, and what its gradient asks of each pixel."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")

import cv2
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.metrics.connectivity import class_connectivity
from edgeseg.training.scl import scl


def pieces(mask):
    """Connected components by flood fill over 8 neighbours, as sets of (row, column)."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        seed = left.pop()
        piece, open_ends = {seed}, [seed]
        while open_ends:
            y, x = open_ends.pop()
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if (near := (y + dy, x + dx)) in left:
                        left.remove(near)
                        piece.add(near)
                        open_ends.append(near)
        found.append(piece)
    return found


def slow_loss(q, predicted, truth):
    """The module docstring, sentence by sentence, for one class; `q` are the class's probabilities."""

    def weigh(pixels):
        return sum(float(q[y, x]) for y, x in pixels)

    real, said = pieces(truth), pieces(predicted)
    if not real and not said:
        return None
    if not said:
        return 1 + sum(1 - float(q[y, x]) for piece in real for y, x in piece) / truth.size
    if not real:
        return 1 + sum(weigh(piece) for piece in said) / truth.size
    covered = set().union(*said)
    total = 0.0
    for g in real:
        uncovered = g - covered
        paired = [p for p in said if p & g]
        ious = []
        for p in paired:
            both = weigh(p & g) + weigh(uncovered)
            ious.append(both / (len(g) + weigh(p) + weigh(uncovered) - both))
        total += sum(ious) / len(ious) if ious else 0.0
    islands = sum(weigh(p) / len(p) for p in said if not any(p & g for g in real))
    return 1 - total / (len(real) + islands)


def slow_scl(logits, labels):
    q = logits.softmax(dim=1).numpy()
    predicted, truth = q.argmax(axis=1), labels.numpy()
    losses = [
        slow_loss(q[n, c], predicted[n] == c, truth[n] == c) for n in range(len(truth)) for c in range(q.shape[1])
    ]
    return float(np.mean([loss for loss in losses if loss is not None]))


def blobs(rng, height=12, width=16, sigma=1.2):
    return (cv2.GaussianBlur(rng.random((height, width), dtype=np.float32), (0, 0), sigma) > 0.5).astype(np.int64)


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 3))
@settings(max_examples=40, deadline=None)
def test_equals_the_slow_version(seed, classes):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(np.stack([blobs(rng), np.zeros((12, 16), np.int64)]))
    logits = torch.from_numpy(rng.normal(0, 1, (2, classes, 12, 16)).astype(np.float32))
    logits = logits + 2 * torch.from_numpy(np.stack([blobs(rng), blobs(rng)]))[:, None] * torch.tensor(
        [-1.0, 1.0, 0.0]
    )[:classes].view(1, -1, 1, 1)
    assert float(scl(logits, labels, max_components=0)) == pytest.approx(slow_scl(logits, labels), abs=1e-5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_sure_prediction_scores_what_the_metric_says(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = blobs(rng), blobs(rng)
    logits = torch.from_numpy(200.0 * np.stack([1 - predicted, predicted])[None].astype(np.float32))
    values = [class_connectivity(truth == index, predicted == index) for index in (0, 1)]
    if any(value is None or value == 0.0 for value in values):
        return  # one-sided classes have the area term, which the metric does not
    expected = 1 - np.mean(values)
    assert float(scl(logits, torch.from_numpy(truth)[None], max_components=0)) == pytest.approx(expected, abs=1e-5)


def scene():
    """A person (rows 4-11, columns 4-11), of which a corner was missed, and an island in the background."""
    truth = torch.zeros(1, 16, 24, dtype=torch.int64)
    truth[0, 4:12, 4:12] = 1
    margin = torch.full((16, 24), -2.0)
    margin[4:12, 4:12] = 2.0
    margin[4:7, 4:7] = -0.5  # missed
    margin[13:15, 18:21] = 1.0  # an island
    margin[9:11, 12] = 0.5  # spilled over the edge
    return truth, margin.requires_grad_()


def test_gradient_points_the_right_way():
    truth, margin = scene()
    logits = torch.stack([-margin, margin])[None]
    scl(logits, truth).backward()
    down = -margin.grad  # where the margin of "person" is pushed
    assert (down[4:7, 4:7] > 0).all(), "missed pixels are pulled up"
    assert (down[13:15, 18:21] < 0).all(), "an island is pushed down"
    assert (down[9:11, 12] < 0).all(), "what spills over is pushed down"


def test_following_the_gradient_mends_the_mask():
    truth, margin = scene()
    before = float(scl(torch.stack([-margin, margin])[None], truth).detach())
    optimizer = torch.optim.SGD([margin], lr=60.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss = scl(torch.stack([-margin, margin])[None], truth)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * before
    assert torch.equal(margin > 0, truth[0] == 1)


@pytest.mark.parametrize("person", [0, 1])
def test_one_sided_classes_have_an_area_term_with_gradient(person):
    truth = torch.full((1, 6, 6), person, dtype=torch.int64)
    logits = torch.zeros(1, 2, 6, 6)
    logits[:, 1 - person] = 1.0
    logits.requires_grad_()
    loss = scl(logits, truth)
    wrong = float(torch.sigmoid(torch.tensor(1.0)))
    assert float(loss.detach()) == pytest.approx(1 + wrong, abs=1e-5)
    loss.backward()
    assert (logits.grad[:, person] < 0).all()


def test_ignored_pixels_count_nowhere():
    truth, margin = scene()
    logits = torch.stack([-margin, margin])[None].detach()
    everything = float(scl(logits, truth))
    truth[0, 13:15, 18:21] = 255
    without_island = float(scl(logits, truth))
    changed = logits.clone()
    changed[:, :, 13:15, 18:21] = torch.randn(1, 2, 2, 3)
    assert float(scl(changed, truth)) == pytest.approx(without_island, abs=1e-6)
    assert without_island < everything
    assert float(scl(logits, torch.full_like(truth, 255))) == 0.0


def test_only_the_largest_components_are_looked_at():
    truth = torch.zeros(1, 20, 60, dtype=torch.int64)
    truth[0, 10:18, 10:30] = 1
    margin = torch.full((20, 60), -3.0)
    margin[10:18, 10:30] = 3.0
    margin[0:8:2, 0:60:2] = 3.0  # 120 islands of one pixel
    logits = torch.stack([-margin, margin])[None]
    assert float(scl(logits, truth, max_components=1)) < float(scl(logits, truth, max_components=10))
    assert float(scl(logits, truth, max_components=10)) < float(scl(logits, truth, max_components=0))
