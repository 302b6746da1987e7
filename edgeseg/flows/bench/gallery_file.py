"""The worst masks of a session, kept beside its results for the report: small pictures, in one npz file."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeseg.core import atomic
from edgeseg.core.arrays import Array
from edgeseg.core.errors import EdgesegError
from edgeseg.data.images import write_jpeg, write_png
from edgeseg.flows.bench.accuracy import Worst
from edgeseg.report.masks import Picture

WIDTH = 480
"""Pictures are kept no wider than this."""


def write(path: Path, worst: Sequence[Worst]) -> None:
    """Keep pictures, atomically; an older file of the session is replaced."""
    arrays: dict[str, Array] = {}
    about = []
    for index, one in enumerate(worst):
        about.append([one.artifact, one.sample.name, one.flipped_share, one.miou])
        small = _smaller(one.sample.image)
        pictures = (
            ("image", write_jpeg(small, 80)),
            ("reference", write_png(_mask(one.reference, small.shape))),
            ("mask", write_png(_mask(one.mask, small.shape))),
        )
        for name, content in pictures:
            arrays[f"{index}.{name}"] = np.frombuffer(content, np.uint8)
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    kept = io.BytesIO()
    np.savez(kept, **arrays)  # type: ignore[arg-type]
    atomic.write_bytes(path, kept.getvalue())


def read(path: Path) -> list[Picture]:
    """The pictures of a session; none if it kept none.

    Raises:
        EdgesegError: The file is damaged.
    """
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as kept:
            return [
                Picture(*about, *(kept[f"{index}.{name}"].tobytes() for name in ("image", "reference", "mask")))
                for index, about in enumerate(json.loads(kept["about"].tobytes()))
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgesegError(
            f"{path} is damaged: {error}", "remove it; the report then has no gallery of masks"
        ) from error


def _smaller(image: Array) -> Array:
    import cv2

    height, width = image.shape[:2]
    if width <= WIDTH:
        return image
    return cv2.resize(image, (WIDTH, max(1, round(height * WIDTH / width))), interpolation=cv2.INTER_AREA)


def _mask(mask: Array, shape: tuple[int, ...]) -> Array:
    """Class indices spread over the grey values, at the size of the picture."""
    import cv2

    grey = (mask.astype(np.uint16) * 255 // max(1, int(mask.max(initial=1)))).astype(np.uint8)
    if grey.shape == shape[:2]:
        return grey
    return cv2.resize(grey, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
