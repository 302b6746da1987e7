"""What a Raspberry Pi's firmware says about its power and heat: the bits of ``vcgencmd get_throttled``.

The low bits hold now, the same bits 16 higher have held at some time since the board was started. Source of the bits:
the documentation of `vcgencmd` by Raspberry Pi Ltd.
"""

from __future__ import annotations

from typing import Optional

BITS: dict[int, str] = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_NOW = sum(1 << bit for bit in BITS)
_SLOWED = 0b1110  # too little voltage alone slows nothing; the cap that follows it has a bit of its own
_SINCE_BOOT = 16


def parse(text: str) -> Optional[int]:
    """``throttled=0x50005`` (vcgencmd) or ``50005`` (sysfs) as a number; None if it is neither."""
    try:
        return int(text.strip().rpartition("=")[2], 16)
    except ValueError:
        return None


def now(flags: int) -> list[str]:
    """What holds at this moment."""
    return [name for bit, name in BITS.items() if flags >> bit & 1]


def since_boot(flags: int) -> list[str]:
    """What has held at some time since the board was started."""
    return [name for bit, name in BITS.items() if flags >> (bit + _SINCE_BOOT) & 1]


def slowed(flags: int) -> bool:
    """Whether the clock is held down at this moment."""
    return bool(flags & _SLOWED)


def came_on(before: int, after: int) -> list[str]:
    """What holds now, or began to since `before` was read, also if it is over by now."""
    new = (after & _NOW) | (after & ~before) >> _SINCE_BOOT & _NOW
    return now(new)


def describe(flags: int) -> str:
    """All of it in words, for a record."""
    present, past = now(flags), since_boot(flags)
    return f"now: {', '.join(present) or 'nothing'}; since boot: {', '.join(past) or 'nothing'}"
