"""Random numbers that stay the same over machines and NumPy versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Array = np.ndarray[Any, np.dtype[np.float32]]


class Dice:
    """Draws from the raw 64-bit stream of PCG64.

    NumPy promises the stream of a bit generator for ever, but lets the methods of `Generator` change.
    """

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float in ``[low, high)``."""
        raw = int(self._bits.random_raw())
        return low + (high - low) * ((raw >> 11) * 2.0**-53)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """An integer in ``[low, high]``, both ends included."""
        return low + int(self.uniform() * (high - low + 1))

    def choose(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[self.integer(0, len(items) - 1)]

    def sign(self) -> float:
        """-1 or 1."""
        return -1.0 if self.chance(0.5) else 1.0

    def bell(self, spread: float = 1.0) -> float:
        """A float around 0 with about the given standard deviation, never beyond 3.5 of them."""
        return spread * (sum(self.uniform() for _ in range(4)) - 2.0) * 1.7320508

    def field(self, *shape: int) -> Array:
        """Uniform float32 in ``[0, 1)`` of the given shape."""
        count = int(np.prod(shape))
        raw = np.atleast_1d(self._bits.random_raw((count + 3) // 4)).astype("<u8").view("<u2")[:count]
        return (raw.astype(np.float32) / np.float32(65536.0)).reshape(shape)

    def bells(self, *shape: int) -> Array:
        """Float32 noise of the given shape: mean 0, standard deviation 1, the sum of four bytes each."""
        count = int(np.prod(shape))
        raw = np.atleast_1d(self._bits.random_raw((count + 1) // 2)).astype("<u8").view("<u4")[:count]
        # Two bytes at a time in one word: NumPy's own sum over an axis of four takes ten times as long.
        pairs = (raw & 0x00FF00FF) + ((raw >> 8) & 0x00FF00FF)
        total = (pairs & 0xFFFF) + (pairs >> 16)
        noise: Array = (total.astype(np.float32) - np.float32(510.0)) / np.float32(147.8)
        return noise.reshape(shape)
