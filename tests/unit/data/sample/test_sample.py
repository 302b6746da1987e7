import hashlib

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import DataError
from edgeseg.data.sample import backdrop, sample
from edgeseg.data.sample.dice import Dice


def test_shapes_and_values():
    image, mask = sample(3)
    assert image.shape == (360, 640, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (360, 640)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert image.flags.c_contiguous


def test_any_size():
    image, mask = sample(4, width=97, height=53)
    assert image.shape == (53, 97, 3)
    assert mask.shape == (53, 97)


def test_same_index_same_picture_in_any_order():
    first = [sample(index, width=160, height=90) for index in (5, 6)]
    again = [sample(index, width=160, height=90) for index in (6, 5)][::-1]
    for (image, mask), (image_again, mask_again) in zip(first, again, strict=True):
        assert np.array_equal(image, image_again)
        assert np.array_equal(mask, mask_again)
    assert not np.array_equal(first[0][0], first[1][0])


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(1)
    before = sample(7, width=160, height=90)[0]
    expected = np.random.random()
    np.random.seed(1)
    after = sample(7, width=160, height=90)[0]
    assert np.array_equal(before, after)
    assert np.random.random() == expected


def test_masks_stay_what_they_were():
    """A recorded digest: results measured on `sample:N` are only comparable while the pictures stay the same."""
    digest = hashlib.sha256()
    for index in range(12):
        digest.update(cv2.resize(sample(index, width=320, height=180)[1], (32, 18)).tobytes())
    assert digest.hexdigest()[:16] == "6e78ea7a34581655"


def test_people_are_there_and_pictures_vary():
    shares, parts, colors = [], [], []
    for index in range(40):
        image, mask = sample(index, width=320, height=180)
        shares.append(mask.mean())
        parts.append(cv2.connectedComponents(mask)[0] - 1)
        colors.append(image[mask == 1].mean(axis=0) - image[mask == 0].mean(axis=0))
    assert min(shares) > 0.03
    assert max(shares) < 0.85
    assert np.std(shares) > 0.08
    assert max(parts) >= 2
    difference = np.array(colors).mean(axis=1)
    assert np.mean(difference > 0) > 0.15  # neither "bright is the person" nor "dark is the person" gives the mask
    assert np.mean(difference < 0) > 0.15


def test_mask_follows_the_picture():
    """The picture changes at the mask's edge more than elsewhere; a mask shifted by a few pixels loses that."""
    here, shifted = [], []
    for index in range(12):
        image, mask = sample(index)
        gradient = cv2.Laplacian(cv2.GaussianBlur(image, (0, 0), 1.5), cv2.CV_32F).__abs__().sum(axis=2)
        edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        here.append(gradient[edge].mean())
        shifted.append(gradient[np.roll(edge, 9, axis=1)].mean())
    assert np.mean(np.array(here) > np.array(shifted)) > 0.9


@pytest.mark.parametrize(("arguments", "text"), [((-1, 640, 360), "below 0"), ((0, 8, 360), "too small")])
def test_bad_arguments(arguments, text):
    index, width, height = arguments
    with pytest.raises(DataError, match=text):
        sample(index, width=width, height=height)


def test_dice_stream_is_numpy_independent():
    dice = Dice(1, 2)
    assert [dice.integer(0, 9) for _ in range(8)] == [4, 4, 4, 2, 8, 0, 0, 8]
    assert abs(float(Dice(3).bells(10000).mean())) < 0.05
    assert abs(float(Dice(3).bells(10000).std()) - 1) < 0.05
    assert 0.0 <= float(Dice(3).field(1000).min()) <= float(Dice(3).field(1000).max()) < 1.0


def test_backdrops_are_scenes_of_their_own():
    first, again = (backdrop(2, width=160, height=90) for _ in range(2))
    assert first.shape == (90, 160, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, backdrop(3, width=160, height=90))
