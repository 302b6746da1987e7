import math

import numpy as np
import pytest

from edgeseg.forecast.interval import UNSEEN, Ratio, band, student_t


def ratios(values, kind="onnx f32"):
    return [Ratio(value, kind, f"session {index}", f"m/{index}@1") for index, value in enumerate(values)]


@pytest.mark.parametrize(("freedom", "expected"), [(4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)])
def test_student_t(freedom, expected):
    assert student_t(freedom) == pytest.approx(expected, rel=0.006)


def test_without_measurements_it_is_wide_and_not_corrected():
    found = band("pi4", "onnx f32", [])
    assert (found.factor, found.used) == (1.0, ())
    assert found.high == pytest.approx(math.exp(1.96 * UNSEEN["pi4"]), rel=1e-3)
    assert found.low == pytest.approx(1 / found.high)
    assert band("pi5", "onnx f32", []).high > found.high


def test_measurements_correct_and_narrow_it():
    wide = band("pi4", "onnx f32", [])
    widths = []
    for count in (1, 3, 10, 40):
        found = band("pi4", "onnx f32", ratios([1.5] * count))
        assert found.factor == pytest.approx(1.5)
        assert found.low < 1.5 < found.high
        assert len(found.used) == count
        widths.append(found.high / found.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[1] < wide.high / wide.low


def test_measurements_that_scatter_narrow_it_less():
    even, uneven = (band("pi4", "onnx f32", ratios(values)) for values in ([1.5] * 6, [1.0, 2.2, 1.3, 1.9, 0.9, 2.5]))
    assert uneven.high / uneven.low > 2 * even.high / even.low


def test_two_that_happen_to_agree_promise_little():
    found = band("pi4", "onnx f32", ratios([1.5, 1.5]))
    assert found.high / found.low > 1.5**2


def test_enough_of_the_same_kind_are_preferred():
    mixed = [*ratios([1.2, 1.25, 1.3]), *ratios([3.0, 3.1], "tflite i8")]
    assert band("pi4", "onnx f32", mixed).factor == pytest.approx(1.25, rel=0.01)
    assert len(band("pi4", "tflite i8", mixed).used) == 5, "two are too few to stand alone"


@pytest.mark.parametrize("spread", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_measurements_that_were_held_out_lie_within_it(count, spread):
    """Of boards that are off by any factor; 95 % are promised, and more come where the spread is less than the prior one."""
    random = np.random.default_rng(100 * count + round(100 * spread))
    inside = []
    for _ in range(1500):
        logs = random.normal(random.normal(0, 0.5), spread, count + 1)
        found = band("pi5", "onnx f32", ratios(np.exp(logs[:-1])))
        inside.append(found.low <= math.exp(logs[-1]) <= found.high)
    assert np.mean(inside) > (0.94 if spread <= 0.2 else 0.84)
