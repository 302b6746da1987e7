"""What the reference made of each picture, kept from one artifact to the next: it is the slowest of all networks."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeseg.core.arrays import Array
from edgeseg.metrics.quality import ImageQuality

LIMIT_BYTES = 128 << 20
"""Masks beyond this are made again, so that memory does not grow with the data set."""


@dataclass
class Remembered:
    """The reference's masks and their quality, by the number of the picture.

    Attributes:
        limit_bytes: How many bytes of masks are kept.
    """

    limit_bytes: int = LIMIT_BYTES
    _kept: dict[int, tuple[Array, ImageQuality | None]] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def get(self, index: int) -> tuple[Array, ImageQuality | None] | None:
        """Mask and quality (None without ground truth); None if they have to be made."""
        return self._kept.get(index)

    def keep(self, index: int, mask: Array, quality: ImageQuality | None) -> None:
        """Keep them if there is room."""
        if index not in self._kept and self._bytes + mask.nbytes <= self.limit_bytes:
            self._kept[index] = mask, quality
            self._bytes += mask.nbytes
