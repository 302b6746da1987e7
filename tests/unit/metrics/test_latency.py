import numpy as np
import pytest

from edgeseg.metrics.latency import (
    Interval,
    independent_ratio,
    paired_ratio,
    summarize,
    supported,
    verdict,
)


def rounds(random, count, size, *, center=10e6, mood=0.02, noise=0.01):
    """Rounds whose runs share the machine's mood."""
    return [
        [int(center * random.normal(1, mood) * value) for value in random.normal(1, noise, size)] for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("quantile", "samples", "expected"), [(0.9, 99, False), (0.9, 100, True), (0.99, 999, False), (0.99, 1000, True)]
)
def test_a_quantile_needs_ten_samples_beyond_it(quantile, samples, expected):
    assert supported(quantile, samples) is expected


def test_quantiles_without_support_are_not_given():
    few = summarize([[1, 2, 3]] * 5)
    assert few.p90 is None
    assert few.p99 is None
    assert few.median is not None
    many = summarize([list(range(1, 51))] * 20)
    assert many.p90 is not None
    assert many.p90.value == pytest.approx(45, abs=1)
    assert many.p99 is not None


def test_one_round_has_no_interval():
    one = summarize([[5, 6, 7]])
    assert one.median_ns == 6
    assert one.median is None


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        summarize([[], []])


def test_median_interval_covers_the_truth():
    """Rounds have moods of their own: an interval that resampled single runs would be far too narrow here."""
    random = np.random.default_rng(1)
    hits = 0
    for trial in range(150):
        summary = summarize(rounds(random, 30, 10, mood=0.05, noise=0.005), seed=trial, draws=200)
        hits += summary.median.contains(10e6)
    assert hits >= 0.88 * 150


@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_equal_variants_are_told_apart_in_at_most_one_of_twenty_cases(noise):
    random = np.random.default_rng(2)
    wrong = 0
    trials = 400
    for _ in range(trials):
        if noise == "normal":
            draws = random.normal(0, 0.05, (2, 30))
        else:  # a busy machine: one slice in ten takes several times as long
            draws = random.normal(0, 0.02, (2, 30)) + (random.random((2, 30)) < 0.1) * random.exponential(1, (2, 30))
        one, other = np.exp(draws)
        wrong += verdict(paired_ratio(one, other)) != "cannot tell"
    assert wrong <= 0.07 * trials  # 5 % and three standard deviations of so many trials
    assert wrong > 0  # an interval that always contains 1 would be no interval


def test_a_slower_twin_is_seen_through_a_drift_that_hits_both():
    random = np.random.default_rng(3)
    drift = np.linspace(1, 2, 40)
    plain = drift * random.normal(1, 0.02, 40)
    slower = 1.05 * drift * random.normal(1, 0.02, 40)
    ratio = paired_ratio(slower, plain)
    assert verdict(ratio) == "slower"
    assert ratio.value == pytest.approx(1.05, abs=0.015)
    assert verdict(paired_ratio(plain, slower)) == "faster"


def test_too_few_pairs_say_nothing():
    assert paired_ratio([2.0] * 5, [1.0] * 5) is None
    assert verdict(None) == "cannot tell"
    assert verdict(paired_ratio([2.0, 2.1, 2.2, 2.1, 2.0, 2.2], [1.0] * 6)) == "slower"


def test_pairs_have_to_be_pairs():
    with pytest.raises(ValueError, match="6 and 7 rounds are no pairs"):
        paired_ratio([1.0] * 6, [1.0] * 7)


def test_the_luck_of_one_load_is_no_difference():
    """Equal variants whose loads differ by some per cent each: paired by rounds they would be told apart far too often."""
    random = np.random.default_rng(6)
    wrong = {"rounds": 0, "loads": 0}
    for _ in range(200):
        loads = np.repeat(np.arange(10), 8)
        luck = random.normal(0, 0.03, 10)[loads]
        one, other = np.exp(luck + random.normal(0, 0.01, 80)), np.exp(random.normal(0, 0.01, 80))
        wrong["rounds"] += verdict(paired_ratio(one, other)) != "cannot tell"
        wrong["loads"] += verdict(paired_ratio(one, other, loads)) != "cannot tell"
    assert wrong["rounds"] > 60
    assert wrong["loads"] <= 18


def test_too_few_loads_fall_back_on_rounds():
    values = [2.0 + 0.01 * (index % 3) for index in range(20)]
    assert paired_ratio(values, [1.0] * 20, [0] * 10 + [1] * 10) == paired_ratio(values, [1.0] * 20)


def test_many_rounds_are_merged():
    random = np.random.default_rng(4)
    ratio = paired_ratio(random.normal(1.1, 0.01, 5000), random.normal(1, 0.01, 5000))
    assert ratio.value == pytest.approx(1.1, abs=0.002)
    assert ratio.spread < 0.002


def test_loads_are_drawn_as_wholes_and_the_interval_holds_its_level():
    random = np.random.default_rng(8)
    wrong = seen = 0
    for _ in range(200):
        loads = np.repeat(np.arange(12), 9)
        # A busy machine: one round in five takes up to half as long again.
        busy = np.exp((random.random((3, 108)) < 0.2) * random.uniform(0, 0.4, (3, 108)))
        plain, twin, slower = busy * np.exp(
            random.normal(0, 0.01, (3, 12))[:, loads] + random.normal(0, 0.02, (3, 108))
        )
        wrong += verdict(paired_ratio(twin, plain, loads)) != "cannot tell"
        seen += verdict(paired_ratio(1.05 * slower, plain, loads)) == "slower"
    assert 0 < wrong <= 16  # 5 % of 200 and two standard deviations
    assert seen >= 0.95 * 200


def test_many_samples_are_thinned_without_moving_their_quantiles():
    random = np.random.default_rng(9)
    rounds = [random.lognormal(0, 0.3, 500) * 1e6 for _ in range(1000)]
    summary = summarize(rounds)
    assert summary.samples == 500_000
    assert summary.median_ns == pytest.approx(np.median(rounds), rel=2e-3)
    assert summary.p99.value == pytest.approx(np.quantile(rounds, 0.99), rel=1e-2)
    assert summary.median.contains(1e6)


def test_independent_ratio():
    random = np.random.default_rng(5)
    ratio = independent_ratio(rounds(random, 40, 10, center=12e6), rounds(random, 40, 10))
    assert ratio.contains(1.2)
    assert not ratio.contains(1.1)
    assert independent_ratio(rounds(random, 5, 10), rounds(random, 40, 10)) is None


def test_interval():
    assert Interval(10, 9, 11).spread == pytest.approx(0.1)
    assert Interval(1.02, 1.0, 1.04).contains(1)
    assert verdict(Interval(1.02, 1.001, 1.04)) == "slower"
