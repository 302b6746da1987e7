"""Scales of activations and weights."""

import numpy as np
import pytest

from edgeseg.quantization.ranges import least_squares
from edgeseg.quantization.scales import Scale, quantise_weights, scale_of


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 6.0), (0.5, 3.0), (-4.0, -1.0), (0.0, 0.0)])
def test_zero_is_exact_and_the_range_is_held(low, high):
    scale = scale_of(low, high)
    assert 0 <= scale.zero <= 255
    assert scale.ends[0] <= min(low, 0) + scale.step
    assert scale.ends[1] >= max(high, 0) - scale.step


def test_an_outlier_does_not_decide_the_scale():
    values = np.concatenate([np.random.default_rng(0).normal(0, 1, 60000).astype(np.float32), [40.0]])
    assert least_squares([values], -5, 40).step < 0.75 * scale_of(-5, 40).step


def test_neighbouring_products_stay_within_16_bits():
    random = np.random.default_rng(0)
    weight = np.abs(random.normal(size=(16, 8, 3, 3))).astype(np.float32)
    stored = quantise_weights(weight, None, Scale(0.01, 128)).stored.astype(np.int64)
    pairs = stored.transpose(0, 2, 3, 1).reshape(16, -1, 2).sum(axis=2)
    assert np.abs(pairs).max() * 255 <= 32767
    free = quantise_weights(weight, None, Scale(0.01, 128), paired=False).stored.astype(np.int64)
    assert free.transpose(0, 2, 3, 1).reshape(16, -1, 2).sum(axis=2).max() * 255 > 32767
    odd = quantise_weights(weight[:, :3], None, Scale(0.01, 128)).stored.astype(np.int64)
    flat = odd.transpose(0, 2, 3, 1).reshape(16, -1)
    assert (flat[:, 1:] + flat[:, :-1]).max() * 255 <= 32767


def test_a_depthwise_kernel_keeps_all_its_bits():
    weight = np.abs(np.random.default_rng(0).normal(size=(8, 1, 3, 3))).astype(np.float32)
    assert (quantise_weights(weight, None, Scale(0.01, 0)).stored.reshape(8, -1).max(axis=1) == 127).all()


def test_the_bias_takes_back_what_rounding_took():
    random = np.random.default_rng(0)
    weight = random.normal(size=(4, 6, 1, 1)).astype(np.float32)
    bias = random.normal(size=4).astype(np.float32)
    source = Scale(0.001, 0)
    means = random.uniform(1, 3, 6)
    wanted = weight[:, :, 0, 0] @ means + bias

    def mean(found):
        return found.real()[:, :, 0, 0] @ means + found.bias * (source.step * found.steps)

    plain, corrected = quantise_weights(weight, bias, source), quantise_weights(weight, bias, source, means)
    assert np.abs(mean(corrected) - wanted).max() < 0.1 * np.abs(mean(plain) - wanted).max()


def test_tiny_weights_with_a_large_bias_do_not_overflow():
    weight = np.full((1, 2, 1, 1), 1e-9, np.float32)
    found = quantise_weights(weight, np.array([50.0], np.float32), Scale(1e-4, 0))
    assert found.bias[0] * (1e-4 * float(found.steps[0])) == pytest.approx(50.0, rel=1e-3)
