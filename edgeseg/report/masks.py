"""Two masks of one picture, one over the other, and what differs between them."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeseg.core.arrays import Array

GAINED = (255, 64, 48)
LOST = (40, 130, 255)


@dataclass(frozen=True)
class Picture:
    """A picture with two masks of it; all three are encoded files of one size, foreground is white."""

    artifact: str
    name: str
    flipped_share: float
    miou: float | None
    image_jpeg: bytes
    reference_png: bytes
    mask_png: bytes


def flipped_pixels(reference: Array, artifact: Array) -> tuple[tuple[Array, tuple[int, int, int]], ...]:
    """Where two masks differ, each pixel grown to 3 x 3 so that a single one is seen.

    Args:
        reference: [H, W], uint8 class indices.
        artifact: [H, W], uint8 class indices.

    Returns:
        [H, W] bool with the RGB colour to draw it in: `GAINED` where the artifact has foreground and the reference has
        not, `LOST` where it is the other way round (or another class).
    """
    import cv2

    flipped = reference != artifact
    gained = flipped & (reference == 0)
    kernel = np.ones((3, 3), np.uint8)
    return tuple(
        (cv2.dilate(pixels.astype(np.uint8), kernel) > 0, colour)
        for pixels, colour in ((gained, GAINED), (flipped & ~gained, LOST))
    )


def gallery(index: int, pictures: Sequence[Picture]) -> str:
    """HTML of a device's pictures: reference and artifact under one slider; empty if there are none."""
    if not pictures:
        return ""
    artifacts = list(dict.fromkeys(picture.artifact for picture in pictures))
    options = "".join(f"<option>{html.escape(name)}</option>" for name in artifacts)
    figures = "".join(_figure(picture, picture.artifact != artifacts[0]) for picture in pictures)
    return (
        f'<h3>Worst masks</h3><div class="gallery" id="gallery-{index}"><div class="controls">'
        f"<label>artifact <select>{options}</select></label>"
        '<label class="slide">reference <input type="range" min="0" max="100" value="50" '
        "aria-label=\"from the reference's mask to the artifact's\"> artifact</label>"
        '<label><input type="checkbox" checked> flipped pixels</label></div>'
        f'<div class="pictures">{figures}</div></div>'
    )


def _figure(picture: Picture, hidden: bool) -> str:
    reference, mask = _grey(picture.reference_png), _grey(picture.mask_png)
    layers = (
        ("photo", "image/jpeg", picture.image_jpeg),
        ("reference", "image/png", _veil(reference)),
        ("artifact", "image/png", _veil(mask)),
        ("flipped", "image/png", _flipped(reference, mask)),
    )
    images = "".join(
        f'<img class="{name}" alt="{name}" src="data:{kind};base64,{base64.b64encode(content).decode()}">'
        for name, kind, content in layers
    )
    caption = f"{100 * picture.flipped_share:.3f} % flipped"
    if picture.miou is not None:
        caption += f", mIoU {picture.miou:.4f}"
    return (
        f'<figure data-artifact="{html.escape(picture.artifact, quote=True)}"{" hidden" if hidden else ""}>'
        f'<div class="stack">{images}<i class="cut"></i></div><figcaption>{html.escape(picture.name)}'
        f"<small>{caption}</small></figcaption></figure>"
    )


def _grey(png: bytes) -> Array:
    import cv2

    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert decoded is not None, "edgeseg bench wrote this file"
    return np.asarray(decoded)


def _veil(mask: Array) -> bytes:
    """A PNG that hides the background behind a violet veil and leaves the foreground free."""
    veil = np.zeros((*mask.shape, 4), np.uint8)
    veil[mask == 0] = (110, 40, 70, 200)
    return _png(veil)


def _flipped(reference: Array, mask: Array) -> bytes:
    """A PNG with the pixels whose class differs, grown so that a single one is seen: red gained, blue lost."""
    layer = np.zeros((*mask.shape, 4), np.uint8)
    for pixels, (red, green, blue) in flipped_pixels(reference, mask):
        layer[pixels] = (blue, green, red, 255)
    return _png(layer)


def _png(bgra: Array) -> bytes:
    import cv2

    _, content = cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return content.tobytes()
