import pytest

from edgeseg.core.measurement import Conditions
from edgeseg.metrics.latency import summarize
from edgeseg.metrics.stability import Flags, check, throttle_labels

FLAGS = Flags(budget_s=20, threads=1, cores=2)
CALM = [10e6 + 1e4 * (index % 3) for index in range(20)]


def labels(medians=CALM, conditions=None, flags=FLAGS, **more):
    latency = summarize([[int(value)] * 5 for value in medians])
    found = check(latency, medians, conditions or [Conditions(background=0.0)] * len(medians), flags, **more)
    return {label.name: label for label in found}


def test_a_calm_measurement_has_no_label():
    assert labels() == {}


def test_few_rounds_advise_a_larger_budget_than_the_one_in_use():
    assert "--budget 60" in labels(CALM[:6])["few rounds"].advice
    assert "let it run" in labels(CALM[:6], flags=Flags(20, 1, 2, "interrupted"))["few rounds"].advice


def test_few_loads_are_a_remark():
    label = labels(loads=2)["few loads"]
    assert "2 times" in label.text
    assert not label.doubtful


def test_background_load_advises_fewer_threads_where_all_cores_are_in_use():
    busy = [Conditions(background=0.4)] * 20
    assert "40 %" in labels(conditions=busy)["background load"].text
    assert "--threads" not in labels(conditions=busy)["background load"].advice
    assert "--threads 1" in labels(conditions=busy, flags=Flags(20, 2, 2))["background load"].advice


def test_unstable_rounds_advise_by_their_cause():
    wild = [10e6 * (1 + 0.3 * (index % 2)) for index in range(20)]
    assert "--budget 40" in labels(wild)["unstable"].advice
    assert "close other programs" in labels(wild, [Conditions(background=0.4)] * 20)["unstable"].advice


@pytest.mark.parametrize(("factor", "word"), [(1.2, "slower"), (0.8, "faster")])
def test_drift(factor, word):
    moved = [10e6 * (1 + (factor - 1) * index / 19) + 1e4 * (index % 3) for index in range(20)]
    assert word in labels(moved)["drift"].text


def test_noise_is_no_drift():
    noisy = [10e6 * (1 + 0.25 * ((7 * index) % 5) / 5) for index in range(12)]
    assert "drift" not in labels(noisy)


def test_the_machine():
    clocks = [Conditions(frequency_mhz=mhz) for mhz in [1500, 1500, 1500, 3000, 3000, 3000]]
    assert "1500 to 3000 MHz" in labels(conditions=clocks)["clock moved"].text
    heat = [Conditions(temperature_c=value) for value in (45, 60, 72)]
    assert "45 to 72" in labels(conditions=heat)["warmed up"].text


def test_what_a_pi_says_of_power_and_heat():
    calm = Conditions(throttled=False, throttle_flags=0x50000)
    assert throttle_labels([calm, calm], calm) == (), "what happened before the session is not its fault"
    (label,) = throttle_labels([calm, Conditions(throttled=False, throttle_flags=0x50005)], calm)
    assert label.name == "throttled"
    assert label.text.startswith("under-voltage, throttled (get_throttled 0x50000, then 0x50005")
    over = Conditions(throttled=False, throttle_flags=0xD0000)
    assert "soft temperature limit" in throttle_labels([calm, over], calm)[0].text, "it came on and is over again"
    assert throttle_labels([Conditions(throttled=True)], Conditions()), "other processors say yes or no"
    assert throttle_labels([Conditions(throttled=False)], Conditions()) == ()


def test_a_slow_first_run_is_a_remark_and_no_doubt():
    label = labels(first_ns=300_000_000)["slow first run"]
    assert "30 times" in label.text
    assert not label.doubtful
    assert "slow first run" not in labels(first_ns=40_000_000)
