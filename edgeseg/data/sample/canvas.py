"""What is painted on: a picture and, beside it, how much of every pixel is a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeseg.data.sample.dice import Dice

Array = np.ndarray[Any, np.dtype[np.float32]]
Labels = np.ndarray[Any, np.dtype[np.uint8]]
Color = tuple[float, float, float]
Paint = Callable[[int, int, int, int], Array]
"""Colours for a rectangle (left, top, width, height): float32 ``[height, width, 3]``, from 0."""

_SUBPIXEL_BITS = 4


class Canvas:
    """A uint8 RGB picture and a uint8 coverage plane (0..255, share of the pixel that is a person)."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.image: Labels = np.zeros((height, width, 3), np.uint8)
        self.coverage: Labels = np.zeros((height, width), np.uint8)

    def labels(self) -> Labels:
        """The mask: 1 where at least half of the pixel is a person."""
        return (self.coverage >= 128).astype(np.uint8)

    def fill(
        self, points: Array, paint: Paint | Color, *, person: bool | None, soft: float = 0.0, opacity: float = 1.0
    ) -> None:
        """Paint a closed polygon.

        Args:
            points: ``[N, 2]`` x, y in pixels.
            paint: A colour, or colours by place.
            person: True adds to the person, False covers it (something stands in front), None leaves the mask alone
                (a detail or a shadow).
            soft: Blur of the edge in pixels; the mask's edge is where half is covered.
            opacity: Share of the paint that covers.
        """
        import cv2

        if not callable(paint) and soft <= 0.2 and opacity == 1.0:  # most shapes: painted in place
            fixed = np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)
            cv2.fillPoly(self.image, [fixed], paint, cv2.LINE_AA, _SUBPIXEL_BITS)
            if person is not None:
                cv2.fillPoly(self.coverage, [fixed], 255 if person else 0, cv2.LINE_AA, _SUBPIXEL_BITS)
            return
        margin = int(np.ceil(3 * soft)) + 2
        low = np.floor(points.min(axis=0)).astype(int) - margin
        high = np.ceil(points.max(axis=0)).astype(int) + margin + 1
        left, top = max(int(low[0]), 0), max(int(low[1]), 0)
        right, bottom = min(int(high[0]), self.width), min(int(high[1]), self.height)
        if left >= right or top >= bottom:
            return
        alpha: Any = np.zeros((bottom - top, right - left), np.uint8)
        fixed = np.round((points - np.array([left, top], np.float32)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(alpha, [fixed], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        if soft > 0.2:
            alpha = cv2.GaussianBlur(alpha, (0, 0), soft)
        where = (slice(top, bottom), slice(left, right))
        here = self.image[where]
        if callable(paint):
            over: Any = cv2.convertScaleAbs(paint(left, top, right - left, bottom - top))
        else:
            over = np.empty_like(here)
            over[:] = np.rint(paint)
        weight = alpha.astype(np.float32) * np.float32(opacity / 255.0)
        self.image[where] = cv2.blendLinear(over, here, weight, 1 - weight)
        if person is True:
            self.coverage[where] = np.maximum(self.coverage[where], alpha)
        elif person is False:
            kept = self.coverage[where].astype(np.uint16) * (255 - alpha.astype(np.uint16))
            self.coverage[where] = (kept // 255).astype(np.uint8)

    def wash(self, small: Array) -> None:
        """Fill the whole picture with a smooth one given at any smaller size: float32 ``[h, w, 3]``, 0..255."""
        import cv2

        coarse = cv2.convertScaleAbs(np.maximum(small, 0).astype(np.float32))
        cv2.resize(coarse, (self.width, self.height), dst=self.image, interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Frame:
    """A place, size and turn: shapes are described in head heights around it, y downwards."""

    x: float
    y: float
    scale: float
    angle: float = 0.0
    stretch: float = 1.0

    def place(self, points: Array | Sequence[Sequence[float]]) -> Array:
        """``[N, 2]`` in head heights to pixels."""
        local = np.asarray(points, np.float32) * np.array([self.scale * self.stretch, self.scale], np.float32)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = np.stack([local[:, 0] * cos - local[:, 1] * sin, local[:, 0] * sin + local[:, 1] * cos], axis=1)
        pixels: Array = (turned + np.array([self.x, self.y])).astype(np.float32)
        return pixels


def smooth(points: Array | Sequence[Sequence[float]], *, steps: int = 6, closed: bool = True) -> Array:
    """A Catmull-Rom curve through ``[N, 2]`` points, `steps` samples for each piece."""
    knots = np.asarray(points, np.float32)
    if closed:
        before, after, later = np.roll(knots, 1, 0), np.roll(knots, -1, 0), np.roll(knots, -2, 0)
        here = knots
    else:
        here, after = knots[:-1], knots[1:]
        before = np.concatenate([knots[:1], knots[:-2]])
        later = np.concatenate([knots[2:], knots[-1:]])
    t = (np.arange(steps, dtype=np.float32) / np.float32(steps))[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (before, here, after, later))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    flat = curve.reshape(-1, 2)
    return (flat if closed else np.concatenate([flat, knots[-1:]])).astype(np.float32)


def oval(
    x: float, y: float, radius_x: float, radius_y: float, *, count: int = 28, wobble: Array | None = None
) -> Array:
    """An ellipse as ``[count, 2]`` points; `wobble` ``[count]`` scales the radius."""
    turn = np.arange(count, dtype=np.float32) * np.float32(2 * np.pi / count)
    radius = np.ones(count, np.float32) if wobble is None else wobble
    return np.stack([x + radius_x * radius * np.cos(turn), y + radius_y * radius * np.sin(turn)], axis=1)


def limb(points: Sequence[Sequence[float]], radii: Sequence[float]) -> Array:
    """The outline of a bent tube through `points` with a radius at each, both ends rounded.

    Bends have to be wider than the tube: where an outline crosses itself, a polygon has a hole.
    """
    if len(points) == 2:  # straight: most are, and a curve costs more than all the rest
        path, radius = np.asarray(points, np.float32), np.asarray(radii, np.float32)
        along = np.broadcast_to(path[1] - path[0], path.shape)
    else:
        path = smooth(points, steps=8, closed=False)
        radius = np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(radii)), radii).astype(np.float32)
        along = np.gradient(path, axis=0)
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * radius[:, None]
    turn = np.linspace(np.pi / 2, -np.pi / 2, 8, dtype=np.float32)[1:-1, None]
    end = path[-1:] + np.cos(turn) * along[-1:] * radius[-1] + np.sin(turn) * across[-1:]
    start = path[:1] - np.cos(turn) * along[:1] * radius[0] - np.sin(turn) * across[:1]
    return np.concatenate([path + across, end, (path - across)[::-1], start]).astype(np.float32)


def clouds(dice: Dice, width: int, height: int, cells: Sequence[int], *, channels: int = 1) -> Array:
    """Smooth noise, ``[height, width, channels]``, about -1..1: one octave for each number of cells across."""
    import cv2

    # Painted small where the finest octave allows it: smooth noise does not show it, and full size costs most here.
    shrink = max(1, min(8, width // (4 * max(cells))))
    small_width, small_height = -(-width // shrink), -(-height // shrink)
    total = np.zeros((small_height, small_width, channels), np.float32)
    weight, norm = 1.0, 0.0
    for count in cells:
        rows = max(2, round(count * height / max(width, 1)) + 1)
        grid = dice.field(rows, count + 1, channels) * 2 - 1
        layer = cv2.resize(grid, (small_width, small_height), interpolation=cv2.INTER_CUBIC)
        total += np.float32(weight) * layer.reshape(total.shape)
        norm += weight
        weight *= 0.6
    total /= np.float32(norm)
    if shrink == 1:
        return total
    full: Array = cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR)
    return full.reshape(height, width, channels)
