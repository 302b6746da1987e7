"""Decoding: image files to RGB arrays, mask files to class codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import DataError

_PNG = b"\x89PNG\r\n\x1a\n"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def read_image(path: Path) -> Array:
    """Decode an image file; its EXIF orientation is applied.

    Returns:
        [H, W, 3], uint8, RGB.

    Raises:
        DataError: The file is missing or is no image that can be decoded.
    """
    import cv2

    content = _bytes(path, "image")
    image = _decode(content, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{path} is not an image that can be decoded", "remove it from the data set or replace it")
    return image


def read_mask(path: Path) -> Array:
    """Decode a mask file as the codes it holds: grey values, or indices for a palette picture.

    Returns:
        [H, W], uint8.

    Raises:
        DataError: The file is missing, no picture, or holds colours instead of codes.
    """
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError

    content = _bytes(path, "mask")
    if content[:8] == _PNG and content[24:26] in (b"\x08\x00", b"\x01\x00"):  # grey: the usual case, and faster so
        import cv2

        grey = _decode(content, cv2.IMREAD_UNCHANGED)
        if grey is not None and grey.ndim == 2 and content[-8:-4] == b"IEND":
            return grey
    # Pillow for the rest, because OpenCV turns the indices of a palette picture into colours.
    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture: Image.Image = ImageOps.exif_transpose(opened)
            if picture.mode in ("L", "P"):
                return np.asarray(picture)
            values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is not a mask that can be decoded: {error}") from error
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
        if (colours == colours[..., :1]).all():
            return np.ascontiguousarray(colours[..., 0])
        raise DataError(
            f"{path} holds colours, a mask holds one class code a pixel", "save masks as 8-bit grey or palette"
        )
    if values.max(initial=0) > 255 or values.min(initial=0) < 0:
        raise DataError(f"{path} holds codes up to {values.max()}, a mask holds codes from 0 to 255")
    return values.astype(np.uint8)


def write_png(image: Array) -> bytes:
    """Encode [H, W] or [H, W, 3] RGB uint8 as PNG."""
    import cv2

    _, content = cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])
    return content.tobytes()


def write_jpeg(image: Array, quality: int = 88) -> bytes:
    """Encode [H, W, 3] RGB uint8 as JPEG."""
    import cv2

    _, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()


def _bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"the {what} {path} does not exist") from error
    except OSError as error:
        raise DataError(f"the {what} {path} cannot be read: {error.strerror}") from error


def _decode(content: bytes, flags: int) -> Array | None:
    import cv2

    try:
        if not content or (content[:2] == b"\xff\xd8" and _cut_off(content)):
            return None
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None


def _cut_off(jpeg: bytes) -> bool:
    """Whether a JPEG ends in the middle of its pixels, which OpenCV's decoder would fill with grey without a word."""
    if jpeg.find(b"\xff\xd9", max(jpeg.rfind(b"\xff\xda"), 0)) >= 0:
        return False  # an end marker stands behind the last scan: the usual case, at the price of two searches
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            picture.load()
    except OSError:
        return True
    return False
