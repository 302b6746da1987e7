"""A person from the waist up: torso, clothes, arms, hands, neck, and the head on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeseg.data.sample.canvas import Canvas, Color, Frame, limb, oval, smooth
from edgeseg.data.sample.cloth import Light, Pattern, any_color, any_pattern, shaded, skin_color, tint
from edgeseg.data.sample.dice import Dice
from edgeseg.data.sample.head import any_head, draw_back, draw_front

ARM_POSES = ("down",) * 16 + ("lap", "lap", "akimbo", "akimbo", "chin", "wave", "ear", "cross")


@dataclass(frozen=True)
class Body:
    """A torso under a head: sizes in head heights, colours, and the light on it."""

    frame: Frame
    shoulder: float
    waist: float
    skin: Color
    cloth: Color
    pattern: Pattern
    sleeve: float
    light: Light


def draw_person(canvas: Canvas, dice: Dice, *, x: float, y: float, scale: float, light: Light) -> None:
    """Paint a person whose head is centred at `x`, `y` and `scale` pixels high; the body leaves the picture below."""
    lean = dice.bell(0.05)
    stretch = dice.uniform(0.9, 1.1)
    skin = skin_color(dice)
    head = any_head(dice, Frame(x, y, scale, lean + dice.bell(0.1), stretch), skin, light)
    body = Body(
        frame=Frame(x, y, scale, lean, stretch),
        shoulder=dice.uniform(0.9, 1.22),
        waist=dice.uniform(0.62, 1.0),
        skin=skin,
        cloth=any_color(dice),
        pattern=any_pattern(dice, scale),
        sleeve=dice.choose((0.35, 1.0, 1.0, 1.0, 0.0)),
        light=light,
    )
    poses = (dice.choose(ARM_POSES), dice.choose(ARM_POSES))
    draw_back(canvas, dice, head)
    for side, pose in zip((-1.0, 1.0), poses, strict=True):
        if pose in ("down", "akimbo"):
            _arm(canvas, dice, body, side, pose)
    _torso(canvas, dice, body)
    _neck_and_collar(canvas, dice, body)
    draw_front(canvas, dice, head)
    for side, pose in zip((-1.0, 1.0), poses, strict=True):
        if pose not in ("down", "akimbo"):
            _arm(canvas, dice, body, side, pose)


def _torso(canvas: Canvas, dice: Dice, body: Body) -> None:
    wide, waist = body.shoulder, body.waist
    slope = dice.uniform(0.82, 0.98)
    half = [
        (0.2, 0.5),
        (0.27, 0.66),
        (0.52, slope - 0.1),
        (wide - 0.12, slope),
        (wide, slope + 0.22),
        (wide - 0.06, 1.7),
        (waist, 2.9),
        (waist * 1.12, 3.9),
        (waist * 1.15, 9.0),
    ]
    outline = smooth([*half, *((-px, py) for px, py in reversed(half))])
    paint = shaded(
        dice,
        body.cloth,
        body.light,
        center=body.frame.x,
        radius=body.frame.scale * wide,
        pattern=body.pattern,
        folds=0.22,
        grain=dice.choose((0.0, 0.0, 0.2)),
    )
    canvas.fill(body.frame.place(outline), paint, person=True)
    kind = dice.choose(("none", "none", "jacket", "jacket", "vest", "logo"))
    if kind == "jacket":
        coat, gap = any_color(dice), dice.uniform(0.12, 0.4)
        cover = shaded(
            dice,
            coat,
            body.light,
            center=body.frame.x,
            radius=body.frame.scale * wide,
            pattern=any_pattern(dice, body.frame.scale),
            folds=0.2,
        )
        for side in (-1.0, 1.0):
            panel = smooth(
                [
                    (side * 0.22, 0.58),
                    (side * 0.52, slope - 0.1),
                    (side * (wide - 0.12), slope),
                    (side * wide, slope + 0.22),
                    (side * (wide - 0.04), 1.7),
                    (side * waist, 2.9),
                    (side * waist * 1.15, 9.0),
                    (side * gap, 9.0),
                    (side * gap, 2.5),
                    (side * (gap + 0.05), 1.5),
                ]
            )
            canvas.fill(body.frame.place(panel), cover, person=True)
            lapel = smooth(
                [
                    (side * 0.24, 0.62),
                    (side * 0.5, 1.1),
                    (side * 0.42, 1.25),
                    (side * (gap + 0.02), 2.0),
                    (side * 0.2, 1.2),
                ]
            )
            canvas.fill(body.frame.place(lapel), tint(coat, 0.85), person=True)
    elif kind == "vest":
        canvas.fill(
            body.frame.place(smooth([(-0.5, 0.95), (0, 1.2), (0.5, 0.95), (0.55, 3), (0.6, 9), (-0.6, 9), (-0.55, 3)])),
            any_color(dice),
            person=None,
        )
    elif kind == "logo":
        canvas.fill(
            body.frame.place(oval(0, 1.8, 0.35, 0.3, wobble=1 + 0.2 * dice.bells(28))), any_color(dice), person=None
        )


def _neck_and_collar(canvas: Canvas, dice: Dice, body: Body) -> None:
    frame = body.frame
    deep = dice.uniform(0.72, 1.25)
    width = dice.uniform(0.19, 0.26)
    skin = shaded(dice, tint(body.skin, 0.92), body.light, center=frame.x, radius=frame.scale * 0.3)
    neck = smooth(
        [
            (-width, 0.2),
            (width, 0.2),
            (width + 0.02, 0.6),
            (width + 0.12, 0.74),
            (0.1, deep),
            (-0.1, deep),
            (-width - 0.12, 0.74),
            (-width - 0.02, 0.6),
        ]
    )
    canvas.fill(frame.place(neck), skin, person=True)
    shadow = smooth([(-0.28, 0.3), (0, 0.4), (0.28, 0.3), (0.22, 0.58), (0, 0.66), (-0.22, 0.58)])
    canvas.fill(frame.place(shadow), tint(body.skin, 0.55), person=None, soft=0.05 * frame.scale, opacity=0.6)
    kind = dice.choose(("none", "none", "shirt", "hood", "scarf", "roll", "tie", "chain"))
    if kind in ("shirt", "tie"):
        collar = any_color(dice) if dice.chance(0.5) else (238.0, 238.0, 240.0)
        for side in (-1.0, 1.0):
            canvas.fill(
                frame.place(
                    [(side * 0.27, 0.6), (side * 0.34, 0.78), (side * 0.2, 1.02), (0.0, 0.92), (side * 0.2, 0.7)]
                ),
                collar,
                person=True,
            )
        if kind == "tie":
            canvas.fill(
                frame.place(
                    [(-0.08, 0.88), (0.08, 0.88), (0.06, 1.02), (0.13, 2.5), (0, 2.75), (-0.13, 2.5), (-0.06, 1.02)]
                ),
                any_color(dice),
                person=True,
            )
    elif kind in ("hood", "scarf", "roll"):
        color = body.cloth if kind == "hood" else any_color(dice)
        wide = {"hood": 0.55, "scarf": 0.48, "roll": 0.3}[kind] + dice.uniform(0, 0.06)
        ring = limb(
            [(-wide, 0.72), (-wide * 0.5, 0.92), (0, 0.96), (wide * 0.5, 0.92), (wide, 0.72)],
            (0.09, 0.13, 0.14, 0.13, 0.09),
        )
        paint = shaded(
            dice,
            color,
            body.light,
            center=frame.x,
            radius=frame.scale * wide,
            folds=0.2,
            pattern=any_pattern(dice, frame.scale),
        )
        canvas.fill(frame.place(ring), paint, person=True)
    elif kind == "chain":
        canvas.fill(
            frame.place(limb([(-0.25, 0.68), (-0.1, 1.05), (0, 1.12), (0.1, 1.05), (0.25, 0.68)], (0.015,))),
            (214.0, 186.0, 110.0),
            person=None,
        )


def _arm(canvas: Canvas, dice: Dice, body: Body, side: float, pose: str) -> None:
    frame, wide = body.frame, body.shoulder
    start = (side * (wide - 0.16), 1.12)
    elbow, wrist = {
        "down": ((wide + dice.uniform(0.02, 0.2), 2.5), (wide + dice.uniform(0.0, 0.2), 3.9)),
        "akimbo": ((wide + dice.uniform(0.45, 0.8), 2.25), (body.waist, 3.0)),
        "lap": ((wide + 0.15, 2.4), (dice.uniform(0.1, 0.5), dice.uniform(2.4, 3.2))),
        "chin": ((wide + dice.uniform(0, 0.2), 2.2), (dice.uniform(0.25, 0.45), dice.uniform(0.9, 1.2))),
        "wave": ((wide + dice.uniform(0.3, 0.55), 1.95), (wide + dice.uniform(0.3, 0.9), 0.6)),
        "ear": ((wide + dice.uniform(0.2, 0.5), 1.9), (0.56, 0.5)),
        "cross": ((wide + 0.12, 2.3), (-0.45, 2.05)),
    }[pose]
    elbow, wrist = (side * elbow[0], elbow[1]), (side * wrist[0], wrist[1])
    bulk = dice.uniform(0.85, 1.15)
    left = float(frame.place([start])[0, 0])
    bare = shaded(dice, body.skin, body.light, center=left, radius=frame.scale * 0.4)
    cloth = shaded(dice, body.cloth, body.light, center=left, radius=frame.scale * 0.5, pattern=body.pattern, folds=0.2)
    upper, lower = (0.21 * bulk, 0.16 * bulk), (0.16 * bulk, 0.1)
    if body.sleeve < 1:
        canvas.fill(frame.place(limb([start, elbow], upper)), bare, person=True)
        canvas.fill(frame.place(limb([elbow, wrist], lower)), bare, person=True)
    _hand(canvas, dice, body, wrist, elbow, spread=pose == "wave")
    if body.sleeve >= 1:
        cuff = (0.1 * elbow[0] + 0.9 * wrist[0], 0.1 * elbow[1] + 0.9 * wrist[1])
        canvas.fill(frame.place(limb([start, elbow], (0.25 * bulk, 0.19 * bulk))), cloth, person=True)
        canvas.fill(frame.place(limb([elbow, cuff], (0.19 * bulk, 0.14))), cloth, person=True)
    elif body.sleeve > 0:
        half = (0.5 * (start[0] + elbow[0]), 0.5 * (start[1] + elbow[1]))
        canvas.fill(frame.place(limb([start, half], (0.25 * bulk, 0.22 * bulk))), cloth, person=True)


def _hand(
    canvas: Canvas, dice: Dice, body: Body, wrist: tuple[float, float], elbow: tuple[float, float], *, spread: bool
) -> None:
    along = np.array([wrist[0] - elbow[0], wrist[1] - elbow[1]], np.float32)
    along /= max(float(np.linalg.norm(along)), 1e-6)
    across = np.array([-along[1], along[0]], np.float32)
    base = np.array(wrist, np.float32)
    paint = shaded(
        dice,
        tint(body.skin, 1.02),
        body.light,
        center=float(body.frame.place([wrist])[0, 0]),
        radius=body.frame.scale * 0.25,
    )
    palm = base + along * 0.14 + oval(0, 0, 1, 1)[:, :1] * along * 0.19 + oval(0, 0, 1, 1)[:, 1:] * across * 0.14
    canvas.fill(body.frame.place(palm), paint, person=True)
    open_angle = dice.uniform(0.1, 0.22) if spread else dice.uniform(0.0, 0.06)
    reach = dice.uniform(0.22, 0.3) if spread or dice.chance(0.5) else 0.1
    for finger in range(4):
        turn = (finger - 1.5) * open_angle
        root = base + along * 0.24 + across * (finger - 1.5) * 0.07
        tip = root + (along * np.cos(turn) + across * np.sin(turn)) * (reach - 0.02 * abs(finger - 1.5))
        canvas.fill(body.frame.place(limb([root, tip], (0.042, 0.034))), paint, person=True)
    side = dice.sign()
    thumb = limb([base + along * 0.1 + across * side * 0.1, base + along * 0.24 + across * side * 0.2], (0.05, 0.035))
    canvas.fill(body.frame.place(thumb), paint, person=True)
