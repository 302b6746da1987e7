"""What a camera does to a scene: exposure, tint, blur, noise, low resolution, sharpening, JPEG."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeseg.data.sample.canvas import Labels
from edgeseg.data.sample.dice import Dice


def photograph(scene: Labels, dice: Dice) -> Labels:
    """Take a picture of a scene.

    Args:
        scene: Uint8 RGB ``[H, W, 3]``.
        dice: How good the camera and the light are.

    Returns:
        Uint8 RGB ``[H, W, 3]``. Nothing moves: the mask still fits.
    """
    import cv2

    height, width = scene.shape[:2]
    unit = height / 360.0
    image: Any = _expose(scene, dice)
    if dice.chance(0.3):  # a cheap camera: fewer pixels than it sends
        share = dice.uniform(0.45, 0.8)
        small = cv2.resize(image, (int(width * share), int(height * share)), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    blur = dice.choose((0.0, dice.uniform(0.3, 0.8), dice.uniform(0.6, 1.4))) * unit
    if blur > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    if dice.chance(0.15):  # the camera or the person moves; evenly to both sides, so that the mask stays in the middle
        length = 2 * dice.integer(1, max(1, round(2 * unit))) + 1
        image = cv2.blur(image, (length, 1) if dice.chance(0.7) else (1, length))
    if dice.chance(0.3):
        strength = dice.uniform(0.3, 1.2)
        image = cv2.addWeighted(image, 1 + strength, cv2.GaussianBlur(image, (0, 0), 1.5 * unit), -strength, 0)
    strength = dice.choose((dice.uniform(0, 2), dice.uniform(1, 6), dice.uniform(4, 14)))
    if strength > 0.5:
        image = _noisy(image, dice, strength)
    if dice.chance(0.85):
        quality = dice.choose((dice.integer(20, 45), dice.integer(45, 75), dice.integer(75, 95)))
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    picture: Labels = image
    return picture


def _noisy(image: Any, dice: Dice, strength: float) -> Any:
    """Sensor noise, mostly grey, a little in colour."""
    import cv2

    height, width = image.shape[:2]
    grey = dice.bells(height, width) * np.float32(strength)
    moved = np.roll(grey, 7 * width + 13)  # a second field for the price of a copy
    planes = cv2.split(image)
    noisy = [
        cv2.add(plane, cv2.addWeighted(grey, 0.8, moved, share, 0), dtype=cv2.CV_8U)
        for plane, share in zip(planes, (0.5, -0.2, -0.4), strict=True)
    ]
    return cv2.merge(noisy)


def _expose(scene: Labels, dice: Dice) -> Any:
    """Exposure, contrast, white balance (as one table for each channel), falling off to the corners."""
    import cv2

    height, width = scene.shape[:2]
    gain, contrast, gamma = float(np.exp(dice.bell(0.14))), dice.uniform(0.7, 1.2), float(np.exp(dice.bell(0.15)))
    if dice.chance(0.04):
        gain *= dice.uniform(0.4, 0.65)
    warm = dice.bell(0.08)
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    curve = np.clip((levels**gamma - 0.5) * contrast + 0.5, 0, 1) * (gain * 255)
    table = np.clip(np.stack([curve * (1 + warm), curve, curve * (1 - warm)], axis=-1), 0, 255).astype(np.uint8)
    image = cv2.LUT(scene, table[None])
    fall = dice.uniform(0, 0.35)
    if fall > 0.1:
        u, v = (np.linspace(-1, 1, size // 8, dtype=np.float32) for size in (width, height))
        share = 255 * (1 - fall * 0.5 * ((u * u)[None, :] + (v * v)[:, None]))
        shade = cv2.resize(share.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
        image = cv2.multiply(image, cv2.merge([shade, shade, shade]), scale=1 / 255)
    return image
