"""The mistakes of calibration are named before anything is computed."""

import numpy as np
import pytest

from edgeseg.core.errors import DataError
from edgeseg.core.spec import ModelSpec
from edgeseg.data.preprocess import to_input
from edgeseg.data.sample import sample
from edgeseg.quantization.contract import enforce, examine, impression

SPEC = ModelSpec("net", 64, 48, "image", "logits")


@pytest.fixture(scope="module")
def pictures():
    return [sample(index)[0] for index in range(36)]


def judged(tensors, spec=SPEC, **how):
    return examine([impression(f"p{index}", tensor, spec) for index, tensor in enumerate(tensors)], spec, **how)


def fatal(findings):
    return " ".join(finding.what for finding in findings if finding.fatal)


def warm(pictures):
    """Pictures as photos of people are: red above blue."""
    return [np.sort(picture, axis=2)[:, :, ::-1].copy() for picture in pictures]


def test_good_pictures_have_no_findings(pictures):
    assert judged([to_input(picture, SPEC) for picture in pictures]) == ()
    assert judged([to_input(picture, SPEC) for picture in warm(pictures)], prepared_elsewhere=True) == ()


def test_too_few(pictures):
    three = judged([to_input(picture, SPEC) for picture in pictures[:3]])
    assert "3 calibration pictures are too few" in fatal(three)
    with pytest.raises(DataError, match="too few"):
        enforce(three)
    assert any("too few" in sentence for sentence in enforce(three, anyway=True))
    ten = judged([to_input(picture, SPEC) for picture in pictures[:10]])
    assert fatal(ten) == ""
    assert "10 calibration pictures are few" in ten[0].what


def raw_bgr(picture):
    """The mistake of a widely copied public INT8 of this kind of network."""
    unscaled = ModelSpec("net", 64, 48, "image", "logits", mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255))
    return to_input(picture[:, :, ::-1].copy(), unscaled)


def test_raw_bgr_for_a_network_of_rgb_in_minus_1_to_1(pictures):
    findings = judged([raw_bgr(picture) for picture in warm(pictures)], prepared_elsewhere=True)
    assert "raw pixels of 0..255 that were never normalised" in fatal(findings)
    assert "RGB, mean 0.5,0.5,0.5, std 0.5,0.5,0.5" in fatal(findings)


def test_swapped_channels(pictures):
    tensors = [to_input(picture, SPEC)[:, ::-1].copy() for picture in warm(pictures)]
    assert "they look like BGR, the network wants RGB" in fatal(judged(tensors, prepared_elsewhere=True))


def test_divided_by_255_only(pictures):
    tensors = [(to_input(picture, SPEC) + 1) / 2 for picture in pictures]
    assert "divided by 255 without mean and std" in fatal(judged(tensors))


def test_the_statistics_of_another_network(pictures):
    imagenet = ModelSpec("net", 64, 48, "image", "logits", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    tensors = [to_input(picture, imagenet) for picture in pictures]
    assert "but inference feeds [-1, 1]" in fatal(judged(tensors))


def test_blank_and_duplicate_pictures(pictures):
    blank = [np.full((48, 64, 3), 90, np.uint8)] * 4
    findings = judged([to_input(picture, SPEC) for picture in [*pictures[:32], *blank]])
    assert any("4 of 36 calibration pictures are blank" in finding.what for finding in findings)
    assert fatal(findings) == ""
    findings = judged([to_input(picture, SPEC) for picture in [pictures[0]] * 36])
    assert "35 of 36 calibration pictures show what another one shows" in fatal(findings)


def test_not_a_number_and_other_shapes(pictures):
    tensors = [to_input(picture, SPEC) for picture in pictures]
    tensors[5][0, 1, 2, 3] = np.nan
    assert "p5 has values that are no numbers" in fatal(judged(tensors))
    with pytest.raises(DataError, match="is float32 1x3x64x48, the network's input is float32 1x3x48x64"):
        impression("x", np.zeros((1, 3, 64, 48), np.float32), SPEC)
    with pytest.raises(DataError, match="uint8"):
        impression("x", np.zeros((1, 3, 48, 64), np.uint8), SPEC)
