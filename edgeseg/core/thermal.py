"""What Android says of its heat: the text of ``dumpsys thermalservice``.

Source of the numbers: `android.os.Temperature` and `PowerManager.getCurrentThermalStatus` of the Android documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""What the numbers of a thermal status mean."""
CPU = 0
"""Type of the sensors of the processor."""


@dataclass(frozen=True)
class Thermal:
    """The heat of a device.

    Attributes:
        status: Place in `STATUS`; from 1 on the clock is held down.
        cpu_c: The hottest sensor of the processor, in degrees Celsius.
    """

    status: Optional[int]
    cpu_c: Optional[float]

    @property
    def words(self) -> str:
        """The status as a word; empty where it is not told."""
        if self.status is None:
            return ""
        return STATUS[self.status] if self.status < len(STATUS) else str(self.status)


def parse(text: str) -> Thermal:
    """Read the text; what it does not hold is None."""
    status = re.search(r"Thermal Status:\s*(\d+)", text)
    # The list of the hardware layer is of now, the cached one of the last change.
    current = text.partition("Current temperatures from HAL")[2] or text
    found = re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=(\d+)", current)
    heat = [float(value) for value, kind in found if int(kind) == CPU]
    return Thermal(int(status.group(1)) if status else None, max(heat) if heat else None)
