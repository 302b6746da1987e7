"""Colours: skin, hair, cloth with its pattern, and the light that falls on them."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from edgeseg.data.sample.canvas import Array, Color, Paint, clouds
from edgeseg.data.sample.dice import Dice

SKIN: tuple[Color, ...] = (
    (252, 224, 200), (243, 206, 172), (236, 190, 150), (222, 168, 124), (200, 144, 98),
    (172, 116, 76), (142, 92, 58), (112, 70, 46), (84, 52, 36), (60, 40, 30),
)  # fmt: skip
HAIR: tuple[Color, ...] = (
    (22, 18, 18), (30, 24, 22), (48, 34, 26), (70, 46, 30), (96, 64, 40), (128, 88, 54), (168, 130, 82),
    (206, 176, 122), (228, 212, 178), (146, 66, 32), (120, 118, 118), (190, 190, 190),
)  # fmt: skip
DYED: tuple[Color, ...] = ((90, 30, 50), (70, 110, 170), (214, 110, 160), (60, 140, 110))


def tint(color: Color, factor: float) -> Color:
    """A colour made lighter or darker."""
    return (min(color[0] * factor, 255.0), min(color[1] * factor, 255.0), min(color[2] * factor, 255.0))


def any_color(dice: Dice, *, saturation: tuple[float, float] = (0.1, 0.9)) -> Color:
    """A colour as clothes and things have them: often grey, black or white, else any hue."""
    if dice.chance(0.3):
        level = dice.choose((18.0, 35.0, 60.0, 110.0, 170.0, 215.0, 240.0)) + dice.uniform(-8, 8)
        return (level, level, level + dice.uniform(-6, 10))
    red, green, blue = colorsys.hsv_to_rgb(dice.uniform(), dice.uniform(*saturation), dice.uniform(0.15, 0.95))
    return (red * 255, green * 255, blue * 255)


def skin_color(dice: Dice) -> Color:
    """A skin tone, jittered."""
    red, green, blue = dice.choose(SKIN)
    factor = dice.uniform(0.9, 1.06)
    return tint((red, green * dice.uniform(0.96, 1.03), blue * dice.uniform(0.93, 1.05)), factor)


def hair_color(dice: Dice) -> Color:
    """A hair colour, jittered; the natural ones leave room for a few dyed heads."""
    return tint(dice.choose(DYED) if dice.chance(0.05) else dice.choose(HAIR), dice.uniform(0.85, 1.2))


@dataclass(frozen=True)
class Light:
    """Where the light of the scene comes from: `side` -1 (left) to 1 (right), and how hard it is, 0 to 1."""

    side: float
    hardness: float


@dataclass(frozen=True)
class Pattern:
    """What is woven or printed: a kind, a second colour, a size in pixels and a slant."""

    kind: str
    color: Color
    size: float
    slant: float

    def weave(self, x: Array, y: Array) -> Array:
        """Share of the second colour at pixel coordinates, 0..1."""
        u = x * np.float32(np.cos(self.slant)) + y * np.float32(np.sin(self.slant))
        v = y * np.float32(np.cos(self.slant)) - x * np.float32(np.sin(self.slant))
        phase, cross = (u / np.float32(self.size)) % 1.0, (v / np.float32(self.size)) % 1.0
        if self.kind == "stripes":
            return np.clip((0.3 - np.abs(phase - 0.5)) * self.size, 0, 1)
        if self.kind == "checks":
            return 0.5 * (np.asarray(phase > 0.55, np.float32) + np.asarray(cross > 0.55, np.float32))
        if self.kind == "dots":
            away = np.sqrt((phase - 0.5) ** 2 + (cross - 0.5) ** 2)
            return np.clip((0.27 - away) * self.size, 0, 1)
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)


PLAIN = Pattern("plain", (0.0, 0.0, 0.0), 1.0, 0.0)


def any_pattern(dice: Dice, scale: float) -> Pattern:
    """Mostly plain; stripes, checks and dots sized for a head of `scale` pixels."""
    kind = dice.choose(("plain",) * 6 + ("print", "stripes", "stripes", "checks", "dots"))
    slant = dice.choose((0.0, np.pi / 2, dice.uniform(0, np.pi)))
    return Pattern(kind, any_color(dice), max(3.0, scale * dice.uniform(0.05, 0.25)), slant)


def shaded(
    dice: Dice,
    color: Color,
    light: Light,
    *,
    center: float,
    radius: float,
    pattern: Pattern = PLAIN,
    folds: float = 0.0,
    grain: float = 0.0,
) -> Paint:
    """Paint for a rounded thing: darker away from the light, with folds and grain.

    Args:
        dice: Where folds and grain come from.
        color: The colour in full light.
        light: The scene's light.
        center: x of the thing's middle, in pixels.
        radius: Half of its width, in pixels.
        pattern: What is printed on it.
        folds: Strength of large smooth brightness changes.
        grain: Strength of fine ones, for hair and wool.
    """

    def paint(left: int, top: int, width: int, height: int) -> Array:
        import cv2

        x = np.arange(left, left + width, dtype=np.float32)[None, :]
        y = np.arange(top, top + height, dtype=np.float32)[:, None]
        u = np.clip((x - np.float32(center)) / np.float32(radius), -1.3, 1.3)
        bright = 1.0 - 0.16 * u * u + (0.12 + 0.4 * light.hardness) * light.side * u
        if folds > 0:
            bright = bright + folds * clouds(dice, width, height, (4, 9))[..., 0]
        if grain > 0:
            strands = clouds(dice, width, max(2, height // 6), (max(8, width // 4),))  # along the fall of the hair
            rows = np.arange(height) * strands.shape[0] // height
            bright = bright + grain * strands[rows, :, 0]
        bright = np.maximum(np.broadcast_to(bright, (height, width)), 0).astype(np.float32)
        if pattern.kind == "plain":
            lit: Array = cv2.merge([bright * np.float32(level) for level in color])
            return lit
        if pattern.kind == "print":
            share = np.clip(clouds(dice, width, height, (6, 13))[..., 0] * 6, 0, 1)
        else:
            share = pattern.weave(x, y)
        levels = zip(color, pattern.color, strict=True)
        printed: Array = cv2.merge([(np.float32(one) + np.float32(two - one) * share) * bright for one, two in levels])
        return printed

    return paint
