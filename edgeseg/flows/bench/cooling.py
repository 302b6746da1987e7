"""Waiting until a device is cool, so that every run begins alike."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgeseg.core.errors import EdgesegError
from edgeseg.core.measurement import Conditions

EVERY_S = 5.0
LONGEST_S = 900.0


def wait(
    conditions: Callable[[], Conditions | None],
    limit_c: float,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Sleep until the device is no hotter than `limit_c`; tells and goes on if that takes longer than a quarter of an hour.

    Args:
        conditions: How the device is now.
        limit_c: In degrees Celsius.
        say: Told when the waiting begins, and if it was in vain.
        sleep: For tests.

    Raises:
        EdgesegError: The device does not say how hot it is.
    """
    waited = 0.0
    while True:
        now = conditions()
        if now is None:
            return  # nothing is left that could be measured
        if now.temperature_c is None:
            raise EdgesegError("the device does not say how hot it is", "leave --cool-to out")
        if now.temperature_c <= limit_c:
            return
        if waited >= LONGEST_S:
            say(f"still {now.temperature_c:.0f} °C after {waited / 60:.0f} minutes; measuring all the same")
            return
        if not waited:
            say(f"{now.temperature_c:.0f} °C: waiting until it is {limit_c:.0f} °C")
        sleep(EVERY_S)
        waited += EVERY_S
