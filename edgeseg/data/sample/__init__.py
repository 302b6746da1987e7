"""The synthetic portrait set: head-and-shoulders pictures with exact masks, drawn from a number.

Nothing is downloaded and nobody is depicted: every picture is painted from shapes, so the mask is known to the pixel.
It is no stand-in for photos when a network is judged; it is there so that a converted network can be compared with
its reference, calibrated and timed on a fresh machine, on pictures hard enough that a bad conversion shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.data.sample.camera import photograph
from edgeseg.data.sample.canvas import Canvas
from edgeseg.data.sample.dice import Dice
from edgeseg.data.sample.scene import compose, compose_empty

__all__ = ["TRAINING_START", "backdrop", "sample"]

TRAINING_START = 1_000_000
"""Training draws its synthetic pictures from this index on; `sample:N` (indices below N) is never trained on."""

_SEED = 0x5EC0DE


def sample(
    index: int, *, width: int = 640, height: int = 360
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.uint8]]]:
    """Paint one picture.

    The same index gives the same scene everywhere: random numbers come from the raw stream of PCG64, which NumPy keeps
    stable, not from NumPy's distributions, which it may change. OpenCV builds differ by a grey level here and there
    in the picture; the mask comes from polygons alone.

    Args:
        index: Which picture, from 0. Indices from `TRAINING_START` on are left to training.
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        The picture, uint8 RGB ``[height, width, 3]``, and its mask, uint8 ``[height, width]`` with 1 where a person
        is and 0 elsewhere. Everybody in the picture is a person, with hair, clothes, hat, glasses and headset;
        chairs, tables and what stands in front of a person are not.

    Raises:
        DataError: The index is negative, or the size is below 32 x 32.
    """
    if index < 0:
        raise DataError(f"sample index {index} is below 0", "indices start at 0")
    if width < 32 or height < 32:
        raise DataError(f"a sample of {width}x{height} is too small to hold a person", "ask for 32x32 or more")
    dice = Dice(_SEED, index)
    canvas = Canvas(width, height)
    compose(canvas, dice)
    return photograph(canvas.image, dice), canvas.labels()


def backdrop(index: int, *, width: int = 640, height: int = 360) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A scene without people, for replacing what is behind somebody.

    Args:
        index: Which scene, from 0.
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        Uint8 RGB ``[height, width, 3]``.
    """
    dice = Dice(_SEED, index, 1)
    canvas = Canvas(width, height)
    compose_empty(canvas, dice)
    return photograph(canvas.image, dice)
