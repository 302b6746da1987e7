"""Augmentation: scale, turn, crop and flip in one warp; colour, blur, noise; another background.

Every function takes its own generator, and one picture's augmentation depends on nothing but that generator: threads
and resumed runs cannot change what a picture looks like in an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.training.losses import IGNORE


@dataclass(frozen=True)
class Augmentation:
    """How strong; the defaults are what the bundled network was trained with.

    Attributes:
        scale: Smallest and largest zoom; 1 shows the whole picture.
        angle_deg: Largest turn to either side.
        shift: Largest shift of the middle, as a share of the picture's sides.
        flip: Probability of mirroring.
        brightness: Largest change, in grey levels.
        contrast: Largest relative change.
        saturation: Largest relative change.
        tint: Largest relative change of a single channel.
        blur: Probability of a blur of up to 1.2 pixels.
        noise: Probability of noise of up to 10 grey levels.
        background: Probability that everything but the people is replaced.
    """

    scale: tuple[float, float] = (0.75, 1.5)
    angle_deg: float = 15.0
    shift: float = 0.12
    flip: float = 0.5
    brightness: float = 40.0
    contrast: float = 0.4
    saturation: float = 0.5
    tint: float = 0.15
    blur: float = 0.15
    noise: float = 0.15
    background: float = 0.1


SYNTHETIC = Augmentation(
    scale=(0.9, 1.2), angle_deg=4.0, shift=0.05, brightness=12.0, contrast=0.12, saturation=0.2, tint=0.05,
    blur=0.0, noise=0.0, background=0.0,
)  # fmt: skip
"""For synthetic pictures: each is a scene of its own already, with its own camera."""


def augment(
    image: Array,
    mask: Array,
    size: tuple[int, int],
    rng: np.random.Generator,
    settings: Augmentation,
    backdrop: Array | None = None,
) -> tuple[Array, Array]:
    """One picture and its mask as the network sees them in training.

    Args:
        image: ``[H, W, 3]`` uint8 RGB.
        mask: ``[H, W]`` uint8, class indices or 255.
        size: (width, height) of the result.
        rng: Decides everything.
        settings: How strong.
        backdrop: ``[h, w, 3]`` uint8 RGB without people, of any size, used with probability `settings.background`.

    Returns:
        Image ``[height, width, 3]`` uint8 and mask ``[height, width]`` uint8; what lies outside of the picture is 255
        in the mask, so that it counts nowhere.
    """
    import cv2

    if backdrop is not None and rng.random() < settings.background:
        image = replace_background(image, mask, backdrop, flip=rng.random() < 0.5)
    matrix = _matrix(mask.shape, size, rng, settings)
    # No antialiasing when shrinking: deployed pre-processing has none either.
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    mask = cv2.warpAffine(
        mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORE
    )
    return _color(image, rng, settings), mask


def replace_background(image: Array, mask: Array, backdrop: Array, *, flip: bool) -> Array:
    """Put the people of a picture before another background, their edge softened over two pixels.

    Returns:
        ``[H, W, 3]`` uint8. Pixels that are ignored in the mask stay as they are.
    """
    import cv2

    height, width = mask.shape
    behind = cv2.resize(backdrop[:, ::-1] if flip else backdrop, (width, height), interpolation=cv2.INTER_LINEAR)
    alpha = cv2.GaussianBlur((mask > 0).astype(np.float32), (0, 0), 0.8)[..., None]
    mixed: Array = np.rint(behind + (image.astype(np.float32) - behind) * alpha).astype(np.uint8)
    return mixed


def _matrix(shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator, settings: Augmentation) -> Array:
    """The 2x3 affine map from the picture to the network's input, with pixel centres at half."""
    height, width = shape
    zoom = float(np.exp(rng.uniform(*np.log(settings.scale))))
    angle = np.deg2rad(rng.uniform(-settings.angle_deg, settings.angle_deg))
    mirror = -1.0 if rng.random() < settings.flip else 1.0
    middle = np.array([width, height]) * (0.5 + rng.uniform(-settings.shift, settings.shift, 2))
    stretch = np.diag([size[0] / width, size[1] / height]) * zoom
    # The turn is made in the picture's own pixels, before the aspect is changed, so that heads stay heads.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = np.diag([mirror, 1.0]) @ stretch @ turn
    offset = np.array(size) / 2 - linear @ (middle - 0.5) - 0.5
    matrix: Array = np.column_stack([linear, offset])
    return matrix


def _color(image: Array, rng: np.random.Generator, settings: Augmentation) -> Array:
    import cv2

    pixels: Any = image.astype(np.float32)
    contrast = 1 + rng.uniform(-settings.contrast, settings.contrast)
    tint = (1 + rng.uniform(-settings.tint, settings.tint, 3)).astype(np.float32) * np.float32(contrast)
    shift = np.float32(127.5 * (1 - contrast) + rng.uniform(-settings.brightness, settings.brightness))
    pixels *= tint
    pixels += shift
    saturation = np.float32(1 + rng.uniform(-settings.saturation, settings.saturation))
    if rng.random() < 0.5:
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = grey + (pixels - grey) * saturation
    if rng.random() < settings.blur:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.2))
    if rng.random() < settings.noise:
        pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(1, 10))
    colored: Array = np.clip(pixels, 0, 255).astype(np.uint8)
    return colored
