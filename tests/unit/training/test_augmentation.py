from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")

from edgeseg.training.augmentation import Augmentation, augment, replace_background

GEOMETRY_ONLY = Augmentation(brightness=0, contrast=0, saturation=0, tint=0, blur=0, noise=0, background=0)
NOTHING = Augmentation(
    scale=(1, 1), angle_deg=0, shift=0, flip=0, brightness=0, contrast=0, saturation=0, tint=0, blur=0, noise=0,
    background=0,
)  # fmt: skip


def picture(height=90, width=160):
    """A picture whose colour says its mask."""
    mask = np.zeros((height, width), np.uint8)
    mask[20:80, 30:70] = 1
    mask[10:25, 90:150] = 1
    image = np.full((height, width, 3), 30, np.uint8)
    image[mask == 1] = (220, 200, 210)
    return image, mask


def test_image_and_mask_stay_aligned():
    image, mask = picture()
    for seed in range(30):
        turned, labels = augment(image, mask, (128, 72), np.random.default_rng(seed), GEOMETRY_ONLY)
        assert turned.shape == (72, 128, 3)
        assert labels.shape == (72, 128)
        valid = labels != 255
        said = turned.mean(axis=2) > 120
        assert (said == (labels == 1))[valid].mean() > 0.985


def test_an_unaligned_pair_would_be_seen():
    image, mask = picture()
    turned, labels = augment(image, np.roll(mask, 4, axis=1), (128, 72), np.random.default_rng(0), GEOMETRY_ONLY)
    assert ((turned.mean(axis=2) > 120) == (labels == 1))[labels != 255].mean() < 0.985


def test_without_any_it_is_the_resize_of_deployment():
    from edgeseg.data.preprocess import resize_bilinear

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 160, 3), dtype=np.uint8)
    got, _ = augment(image, np.zeros((90, 160), np.uint8), (64, 36), rng, NOTHING)
    expected = resize_bilinear(image.transpose(2, 0, 1).astype(np.float32), 36, 64).transpose(1, 2, 0)
    assert np.abs(got[1:-1, 1:-1] - expected[1:-1, 1:-1]).mean() < 2.5  # warpAffine has 1/32 pixel steps


def test_outside_counts_nowhere_and_ignore_survives():
    image, mask = picture()
    mask[:5] = 255
    small = Augmentation(scale=(0.5, 0.5), angle_deg=0, shift=0, flip=0)
    _, labels = augment(image, mask, (160, 90), np.random.default_rng(0), small)
    assert (labels[:20] == 255).all()
    assert (labels[:, :38] == 255).all()
    assert set(np.unique(labels)) == {0, 1, 255}
    assert (labels[24, 45:115] == 255).all()


def test_same_generator_same_picture():
    image, mask = picture()
    first = augment(image, mask, (64, 36), np.random.default_rng([1, 2]), Augmentation())
    again = augment(image, mask, (64, 36), np.random.default_rng([1, 2]), Augmentation())
    other = augment(image, mask, (64, 36), np.random.default_rng([1, 3]), Augmentation())
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_background_is_replaced_and_people_are_kept():
    image, mask = picture()
    backdrop = np.zeros((18, 32, 3), np.uint8)
    backdrop[..., 2] = 255
    mixed = replace_background(image, mask, backdrop, flip=False)
    assert np.array_equal(mixed[30:70, 40:60], image[30:70, 40:60])
    assert (mixed[85:, 100:] == (0, 0, 255)).all()
