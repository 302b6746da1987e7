"""A head: face, hair, beard, glasses, hat, headset, mask, scarf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeseg.data.sample.canvas import Array, Canvas, Color, Frame, Paint, limb, oval, smooth
from edgeseg.data.sample.cloth import Light, any_color, any_pattern, hair_color, shaded, tint
from edgeseg.data.sample.dice import Dice

HALF_WIDTH = 0.37
"""Half of a head's width in head heights."""


@dataclass(frozen=True)
class Head:
    """What a head looks like; drawn in two passes because hair hangs behind the shoulders and before the face.

    Attributes:
        frame: Its place, size and tilt; y runs from -0.5 (crown) to 0.5 (chin).
        yaw: Where it looks, -1 (left) to 1 (right).
        skin: Skin colour.
        hair: Hair colour.
        style: bald, short, crop, bob, long, bun, tail, afro, curls or scarf.
        headwear: none, cap, beanie or brim.
        light: The scene's light.
    """

    frame: Frame
    yaw: float
    skin: Color
    hair: Color
    style: str
    headwear: str
    light: Light


STYLES = (
    "bald",
    "short",
    "short",
    "short",
    "crop",
    "bob",
    "long",
    "long",
    "long",
    "bun",
    "tail",
    "afro",
    "curls",
    "scarf",
)


def any_head(dice: Dice, frame: Frame, skin: Color, light: Light) -> Head:
    """Roll a head for a place."""
    style = dice.choose(STYLES)
    headwear = dice.choose(("cap", "beanie", "brim")) if style != "scarf" and dice.chance(0.15) else "none"
    if style == "afro" and headwear != "none":
        style = "curls"
    hair = any_color(dice) if style == "scarf" else hair_color(dice)
    return Head(frame, dice.bell(0.35), skin, hair, style, headwear, light)


def _hair_paint(dice: Dice, head: Head, color: Color, *, grain: float = 0.22) -> Paint:
    frame = head.frame
    return shaded(dice, color, head.light, center=frame.x, radius=frame.scale * 0.5, folds=0.25, grain=grain)


def _ragged(dice: Dice, points: Array, amount: float) -> Array:
    """An outline made uneven, as hair is."""
    middle = points.mean(axis=0)
    jitter = 1.0 + np.float32(amount) * dice.bells(len(points), 1)
    ragged: Array = (middle + (points - middle) * jitter).astype(np.float32)
    return ragged


def draw_back(canvas: Canvas, dice: Dice, head: Head) -> None:
    """What hangs or stands behind neck and shoulders."""
    frame, side = head.frame, dice.sign()
    paint = _hair_paint(dice, head, tint(head.hair, 0.8))
    soft = 0.012 * frame.scale
    if head.style in ("long", "bob"):
        low = dice.uniform(0.55, 0.75) if head.style == "bob" else dice.uniform(0.9, 1.7)
        wide = dice.uniform(0.46, 0.62)
        flare = wide + dice.uniform(-0.06, 0.18)
        shape = smooth(
            [(0, -0.58), (wide * 0.8, -0.42), (wide, 0), (flare, low * 0.7), (flare * 0.8, low), (0, low * 0.9),
             (-flare * 0.8, low + dice.uniform(-0.1, 0.1)), (-flare, low * 0.7), (-wide, 0), (-wide * 0.8, -0.42)]
        )  # fmt: skip
        canvas.fill(frame.place(_ragged(dice, shape, 0.012)), paint, person=True, soft=soft)
    elif head.style == "tail":
        tail = limb([(0, -0.35), (side * 0.55, -0.3), (side * 0.66, 0.3), (side * 0.5, 0.9)], (0.1, 0.16, 0.17, 0.05))
        canvas.fill(frame.place(_ragged(dice, tail, 0.01)), paint, person=True, soft=soft)
    elif head.style == "bun":
        bun = oval(side * dice.uniform(0, 0.2), -0.62, 0.2, 0.18)
        canvas.fill(frame.place(_ragged(dice, bun, 0.03)), paint, person=True, soft=soft)
    elif head.style in ("afro", "curls"):
        size = dice.uniform(0.62, 0.85) if head.style == "afro" else dice.uniform(0.5, 0.62)
        count = 64
        mop = oval(0, -0.12, size, size * dice.uniform(0.9, 1.05), count=count, wobble=1 + 0.03 * dice.bells(count))
        canvas.fill(frame.place(mop), paint, person=True, soft=2 * soft)
    elif head.style == "scarf":
        shape = smooth(
            [
                (0, -0.6),
                (0.4, -0.45),
                (0.5, 0),
                (0.55, 0.55),
                (0.75, 0.95),
                (0, 1.1),
                (-0.75, 0.95),
                (-0.55, 0.55),
                (-0.5, 0),
                (-0.4, -0.45),
            ]
        )
        canvas.fill(frame.place(shape), _hair_paint(dice, head, head.hair, grain=0.0), person=True)


def _face_outline(dice: Dice) -> Array:
    jaw = dice.uniform(0.6, 0.85)
    return smooth(
        [(0, -0.5), (0.24, -0.45), (0.35, -0.25), (HALF_WIDTH, 0.0), (0.35 * (0.5 + jaw / 2), 0.22),
         (0.3 * jaw, 0.4), (0.12, 0.5), (-0.12, 0.5), (-0.3 * jaw, 0.4), (-0.35 * (0.5 + jaw / 2), 0.22),
         (-HALF_WIDTH, 0.0), (-0.35, -0.25), (-0.24, -0.45)]
    )  # fmt: skip


def draw_front(canvas: Canvas, dice: Dice, head: Head) -> None:
    """Ears, face and all that is before them."""
    frame, skin = head.frame, head.skin
    paint = shaded(dice, skin, head.light, center=frame.x, radius=frame.scale * HALF_WIDTH, folds=0.06)
    if head.style not in ("scarf", "long", "bob", "afro"):
        for side in (-1.0, 1.0):
            if side * head.yaw < 0.45:
                canvas.fill(frame.place(oval(side * 0.375, 0.03, 0.06, 0.11)), tint(skin, 0.88), person=True)
    outline = _face_outline(dice)
    canvas.fill(frame.place(outline), paint, person=True)
    _features(canvas, dice, head)
    if head.style not in ("scarf",) and dice.chance(0.25):
        _beard(canvas, dice, head, outline)
    _hair_front(canvas, dice, head)
    if dice.chance(0.04):
        mask = smooth([(-0.34, 0.02), (0, -0.03), (0.34, 0.02), (0.28, 0.38), (0, 0.52), (-0.28, 0.38)])
        canvas.fill(frame.place(mask), any_color(dice), person=True)
    if dice.chance(0.38):
        _glasses(canvas, dice, head)
    if head.headwear != "none":
        _hat(canvas, dice, head)
    if dice.chance(0.18):
        _headset(canvas, dice, head)


def _features(canvas: Canvas, dice: Dice, head: Head) -> None:
    frame, shift = head.frame, head.yaw * 0.12
    dark = tint(head.hair, 0.75) if head.style != "scarf" else (40.0, 28.0, 24.0)
    eye_y, eye_gap, brow = dice.uniform(-0.04, 0.02), dice.uniform(0.14, 0.17), dice.uniform(0.09, 0.13)
    iris = dice.choose(((50.0, 32.0, 22.0), (80.0, 56.0, 34.0), (76.0, 110.0, 140.0), (80.0, 104.0, 70.0)))
    open_eye = dice.uniform(0.02, 0.042)
    for side in (-1.0, 1.0):
        x = shift + side * eye_gap
        canvas.fill(
            frame.place(oval(x, eye_y, 0.09, 0.065)), tint(head.skin, 0.84), person=None, soft=0.02 * frame.scale
        )
        canvas.fill(frame.place(oval(x, eye_y, 0.066, open_eye)), (232.0, 228.0, 224.0), person=None)
        canvas.fill(frame.place(oval(x + head.yaw * 0.02, eye_y, 0.032, open_eye)), iris, person=None)
        arch = limb(
            [(x - side * 0.08, eye_y - brow + 0.02), (x, eye_y - brow - 0.01), (x + side * 0.09, eye_y - brow + 0.03)],
            (0.02, 0.02, 0.008),
        )
        canvas.fill(frame.place(arch), dark, person=None, opacity=0.8)
    nose = smooth(
        [
            (shift, -0.05),
            (shift + 0.05, 0.14),
            (shift + 0.07, 0.19),
            (shift, 0.22),
            (shift - 0.07, 0.19),
            (shift - 0.03, 0.14),
        ]
    )
    lit = -head.light.side if head.light.side else 1.0
    canvas.fill(
        frame.place(nose + np.array([0.02 * lit, 0.01])), tint(head.skin, 0.78), person=None, soft=0.02 * frame.scale
    )
    canvas.fill(frame.place(nose), tint(head.skin, 1.05), person=None, soft=0.02 * frame.scale)
    wide, smile = dice.uniform(0.09, 0.14), dice.uniform(-0.01, 0.05)
    lips = tint((head.skin[0] * 0.92, head.skin[1] * 0.62, head.skin[2] * 0.62), dice.uniform(0.8, 1.05))
    mouth = smooth(
        [
            (shift * 0.9 - wide, 0.3 - smile),
            (shift * 0.9, 0.285),
            (shift * 0.9 + wide, 0.3 - smile),
            (shift * 0.9, 0.335),
        ]
    )
    canvas.fill(frame.place(mouth), lips, person=None)
    if dice.chance(0.25):
        canvas.fill(
            frame.place(mouth * np.array([0.75, 1.0]) + np.array([shift * 0.22, 0.003])),
            (236.0, 232.0, 226.0),
            person=None,
            opacity=0.85,
        )


def _beard(canvas: Canvas, dice: Dice, head: Head, outline: Array) -> None:
    low = outline[outline[:, 1] > 0.05] * np.array([1.02, dice.uniform(1.02, 1.16)], np.float32)
    inner = limb([(0.22, 0.1), (0.16, 0.2), (0, 0.235), (-0.16, 0.2), (-0.22, 0.1)], (0.01, 0.01))
    right, left = low[low[:, 0] >= 0], low[low[:, 0] < 0]
    shape = np.concatenate(
        [right[np.argsort(right[:, 1])], left[np.argsort(-left[:, 1])], inner[::-1][: len(inner) // 2]]
    )
    canvas.fill(
        head.frame.place(shape),
        _hair_paint(dice, head, head.hair),
        person=True,
        soft=0.015 * head.frame.scale,
        opacity=dice.uniform(0.4, 0.95),
    )


def _hair_front(canvas: Canvas, dice: Dice, head: Head) -> None:
    frame, style = head.frame, head.style
    if style == "bald":
        return
    paint = _hair_paint(dice, head, head.hair, grain=0.0 if style == "scarf" else 0.22)
    line = dice.uniform(-0.34, -0.2)
    part = dice.uniform(-0.2, 0.2)
    if style == "scarf":
        hood = smooth(
            [
                (0, -0.62),
                (0.42, -0.48),
                (0.52, 0.0),
                (0.46, 0.5),
                (0.2, 0.72),
                (0, 0.6),
                (0.24, 0.4),
                (0.33, 0.05),
                (0.25, -0.26),
                (0, -0.36),
                (-0.25, -0.26),
                (-0.33, 0.05),
                (-0.24, 0.4),
                (0, 0.6),
                (-0.2, 0.72),
                (-0.46, 0.5),
                (-0.52, 0),
                (-0.42, -0.48),
            ]
        )
        canvas.fill(frame.place(hood), paint, person=True)
        return
    rise = {"crop": 0.53, "short": 0.58, "afro": 0.7, "curls": 0.64}.get(style, 0.59) + dice.uniform(-0.01, 0.05)
    side = 0.36 if style == "crop" else dice.uniform(0.39, 0.44)
    down = {"long": 0.42, "bob": 0.42, "short": 0.02, "crop": -0.08}.get(style, 0.0)
    fringe = dice.uniform(-0.12, -0.04) if style in ("bob", "long", "short") and dice.chance(0.3) else line
    cap = smooth(
        [(part, -rise), (0.26, -rise * 0.94), (side, -0.28), (side + 0.01, down * 0.5), (side - 0.02, down),
         (side - 0.09, down * 0.5 - 0.02), (0.3, -0.12), (0.26, fringe), (part, fringe - 0.03), (-0.24, fringe + 0.02),
         (-0.3, -0.12), (-side + 0.09, down * 0.5 - 0.02), (-side + 0.02, down), (-side - 0.01, down * 0.5),
         (-side, -0.28), (-0.26, -rise * 0.94)]
    )  # fmt: skip
    rough = 0.03 if style in ("afro", "curls") else 0.01
    canvas.fill(frame.place(_ragged(dice, cap, rough)), paint, person=True, soft=0.01 * frame.scale)
    if style in ("long", "tail") and dice.chance(0.7):
        for hand in (-1.0, 1.0):
            if dice.chance(0.75):
                end = dice.uniform(0.7, 1.5)
                lock = limb(
                    [(hand * 0.36, -0.2), (hand * 0.42, 0.3), (hand * dice.uniform(0.3, 0.5), end)], (0.06, 0.1, 0.03)
                )
                canvas.fill(frame.place(_ragged(dice, lock, 0.008)), paint, person=True, soft=0.01 * frame.scale)
    for _ in range(dice.integer(0, 3)):  # single strands that stand off
        x = dice.uniform(-0.4, 0.4)
        strand = limb([(x, -0.45), (x * 1.25, -0.56), (x * 1.4 + dice.uniform(-0.1, 0.1), -0.6)], (0.01, 0.004))
        canvas.fill(frame.place(strand), head.hair, person=True, opacity=0.8)


def _glasses(canvas: Canvas, dice: Dice, head: Head) -> None:
    frame, shift = head.frame, head.yaw * 0.12
    sun = dice.chance(0.3)
    rim: Color = dice.choose(((15.0, 15.0, 18.0), (60.0, 36.0, 22.0), (170.0, 150.0, 90.0), (120.0, 20.0, 30.0)))
    wide, tall, thick = dice.uniform(0.11, 0.14), dice.uniform(0.075, 0.12), dice.uniform(0.012, 0.03)
    for side in (-1.0, 1.0):
        x = shift + side * 0.155
        canvas.fill(
            frame.place(oval(x, 0.0, wide + thick, tall + thick)), rim, person=None, opacity=1.0 if sun else 0.0
        )
        if sun:
            canvas.fill(frame.place(oval(x, 0.0, wide, tall)), (28.0, 26.0, 30.0), person=None, opacity=0.92)
        else:
            ring = oval(x, 0.0, wide, tall)
            canvas.fill(frame.place(limb([*ring, ring[0]], (thick,))), rim, person=None)
        if dice.chance(0.5):
            canvas.fill(frame.place(oval(x - 0.04, -0.03, 0.03, 0.02)), (245.0, 248.0, 255.0), person=None, opacity=0.6)
        canvas.fill(frame.place(limb([(x + side * wide, -0.02), (side * 0.38, 0.0)], (thick, thick))), rim, person=None)
    canvas.fill(frame.place(limb([(shift - 0.04, -0.01), (shift + 0.04, -0.01)], (thick, thick))), rim, person=None)


def _hat(canvas: Canvas, dice: Dice, head: Head) -> None:
    frame, color = head.frame, any_color(dice)
    pattern = any_pattern(dice, frame.scale)
    paint = shaded(dice, color, head.light, center=frame.x, radius=frame.scale * 0.45, folds=0.08, pattern=pattern)
    dome = [
        (-0.43, -0.2),
        (-0.41, -0.48),
        (-0.22, -0.68),
        (0, -0.72),
        (0.22, -0.68),
        (0.41, -0.48),
        (0.43, -0.2),
        (0, -0.28),
    ]
    if head.headwear == "brim":
        brim = oval(0, -0.27, dice.uniform(0.55, 0.8), dice.uniform(0.09, 0.16))
        canvas.fill(frame.place(brim), tint(color, 0.8), person=True)
    canvas.fill(frame.place(smooth(dome)), paint, person=True)
    if head.headwear == "cap":
        turn = head.yaw * 0.5
        peak = smooth(
            [
                (-0.36 + turn, -0.27),
                (turn, -0.36),
                (0.36 + turn, -0.27),
                (0.3 + turn * 1.5, -0.15),
                (turn * 1.5, -0.1),
                (-0.3 + turn * 1.5, -0.15),
            ]
        )
        canvas.fill(frame.place(peak), tint(color, 0.7), person=True)
    elif head.headwear == "beanie":
        cuff = smooth([(-0.44, -0.15), (-0.43, -0.34), (0, -0.42), (0.43, -0.34), (0.44, -0.15), (0, -0.22)])
        canvas.fill(frame.place(cuff), tint(color, 0.85), person=True)
        if dice.chance(0.4):
            canvas.fill(
                frame.place(oval(0, -0.8, 0.13, 0.13, wobble=1 + 0.05 * dice.bells(28))), any_color(dice), person=True
            )


def _headset(canvas: Canvas, dice: Dice, head: Head) -> None:
    frame = head.frame
    color: Color = dice.choose(((22.0, 22.0, 24.0), (225.0, 225.0, 228.0), (120.0, 30.0, 40.0), (60.0, 70.0, 90.0)))
    top = 0.78 if head.headwear != "none" else (0.74 if head.style in ("afro", "curls") else 0.66)
    bow = limb(
        [(-0.42, 0.0), (-0.41, -0.3), (-0.28, -top * 0.86), (0, -top), (0.28, -top * 0.86), (0.41, -0.3), (0.42, 0.0)],
        (0.035,),
    )
    canvas.fill(frame.place(bow), color, person=True)
    for side in (-1.0, 1.0):
        canvas.fill(frame.place(oval(side * 0.42, 0.04, 0.1, 0.16)), tint(color, 0.9), person=True)
        canvas.fill(frame.place(oval(side * 0.45, 0.04, 0.05, 0.11)), tint(color, 1.3), person=None)
    if dice.chance(0.5):
        side = dice.sign()
        boom = limb([(side * 0.43, 0.12), (side * 0.38, 0.36), (side * 0.16, 0.4)], (0.014, 0.014, 0.03))
        canvas.fill(frame.place(boom), color, person=True)
