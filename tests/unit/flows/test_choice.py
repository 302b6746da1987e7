"""What a choice of scales is judged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeseg.core.spec import ModelSpec
from edgeseg.flows import calibration
from edgeseg.flows.choice import _margins

SPEC = ModelSpec("net", 40, 20, "image", "logits")


@pytest.fixture
def output():
    return np.random.default_rng(0).normal(size=(1, 2, 20, 40)).astype(np.float32)


def test_equal_scores_have_no_error(output):
    assert _margins([output], SPEC)([output]) == 0.0
    several = replace(SPEC, output_channels=4, classes=("a", "b", "c", "d"))
    planes = np.random.default_rng(1).normal(size=(1, 4, 20, 40)).astype(np.float32)
    assert _margins([planes], several)([planes]) == 0.0


def test_the_error_of_the_margin_counts_where_the_margin_is_small(output):
    """A twentieth of the 800 pixels; elsewhere the scores may be what they will."""
    judge = _margins([output], SPEC)
    margin = np.abs(output[0, 1] - output[0, 0])
    near = margin <= np.sort(margin.ravel())[39]
    moved = output.copy()
    moved[0, 0][~near] += 5.0
    assert judge([moved]) == 0.0
    moved[0, 1][near] += 0.25
    assert judge([moved]) == pytest.approx(0.25, rel=1e-4)


def test_the_margin_is_between_the_two_classes_that_were_first():
    several = replace(SPEC, output_channels=3, classes=("a", "b", "c"))
    planes = np.zeros((1, 3, 20, 40), np.float32)
    planes[0, 0], planes[0, 1], planes[0, 2] = 1.0, 0.9, -5.0
    judge = _margins([planes], several)
    other = planes.copy()
    other[0, 2] = 0.0
    assert judge([other]) == 0.0
    other[0, 1] = 0.4
    assert judge([other]) == pytest.approx(0.5, rel=1e-4)


def test_pixels_without_any_margin_do_not_count(output):
    """Behind a ReLU sure background has twice a 0, and integers keep it."""
    silent = output.copy()
    silent[0, :, :10] = 0.0
    judge = _margins([silent], SPEC)
    moved = silent.copy()
    moved[0, 1, 10:] += 0.5
    assert judge([moved]) == pytest.approx(0.5, rel=1e-4)


def test_labels_have_no_margin():
    assert _margins([], replace(SPEC, output_kind="labels")) is None


def test_pictures_are_decoded_once_while_they_fit(monkeypatch):
    asked = []

    def read(index):
        asked.append(index)
        return str(index), np.zeros((1, 3, 8, 8), np.float32), None

    kept = calibration._kept(read)
    for _ in range(3):
        assert [kept(index)[0] for index in range(4)] == ["0", "1", "2", "3"]
    assert asked == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        kept(0)[1][...] = 1.0
    monkeypatch.setattr(calibration, "KEPT_BYTES", 2 * 3 * 8 * 8 * 4)
    asked.clear()
    kept = calibration._kept(read)
    for _ in range(2):
        for index in range(4):
            kept(index)
    assert asked == [0, 1, 2, 3, 2, 3], "two fit, the others are read again"
