import pytest

from edgeseg.core.errors import EdgesegError
from edgeseg.core.measurement import Conditions
from edgeseg.flows.bench import cooling


def waiting(*degrees):
    left, slept, told = list(degrees), [], []
    cooling.wait(
        lambda: Conditions(temperature_c=left.pop(0) if len(left) > 1 else left[0]), 55,
        say=told.append, sleep=slept.append,
    )  # fmt: skip
    return len(slept), told


def test_it_waits_until_it_is_cool():
    assert waiting(54) == (0, [])
    naps, told = waiting(70, 60, 55)
    assert naps == 2
    assert told == ["70 °C: waiting until it is 55 °C"]


def test_it_does_not_wait_for_ever():
    naps, told = waiting(80)
    assert naps == cooling.LONGEST_S / cooling.EVERY_S
    assert "still 80 °C after 15 minutes" in told[-1]


def test_a_device_that_does_not_say():
    with pytest.raises(EdgesegError, match="does not say how hot it is"):
        waiting(None)
    cooling.wait(lambda: None, 55, say=pytest.fail)
