import pytest

from edgeseg.core import throttling


@pytest.mark.parametrize(("text", "flags"), [("throttled=0x50005\n", 0x50005), ("50005", 0x50005), ("0", 0), ("", None), ("?", None)])  # fmt: skip
def test_both_ways_of_writing(text, flags):
    assert throttling.parse(text) == flags


def test_every_bit():
    assert throttling.now(0b1111) == ["under-voltage", "frequency capped", "throttled", "soft temperature limit"]
    assert throttling.since_boot(0xF0000) == throttling.now(0xF)
    assert throttling.now(0xF0000) == []
    assert throttling.describe(0x50000) == "now: nothing; since boot: under-voltage, throttled"
    assert [throttling.slowed(1 << bit) for bit in range(4)] == [False, True, True, True]


def test_what_came_on():
    assert throttling.came_on(0x50000, 0x50000) == []
    assert throttling.came_on(0x50000, 0xD0000) == ["soft temperature limit"]
    assert throttling.came_on(0, 0x50005) == ["under-voltage", "throttled"]
    assert throttling.came_on(0x50005, 0x50001) == ["under-voltage"], "it holds during the run, whenever it began"
