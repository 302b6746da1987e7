"""Who is where: framing as webcams and photographs have it, chairs behind people and things before them."""

from __future__ import annotations

import numpy as np

from edgeseg.data.sample.backdrop import box, draw_backdrop
from edgeseg.data.sample.canvas import Canvas, Frame, limb, oval, smooth
from edgeseg.data.sample.cloth import Light, any_color, shaded, tint
from edgeseg.data.sample.dice import Dice
from edgeseg.data.sample.person import draw_person

CHAIRS = ((34.0, 34.0, 38.0), (58.0, 58.0, 62.0), (104.0, 106.0, 110.0), (96.0, 74.0, 56.0), (70.0, 84.0, 104.0))
"""What back rests are covered with."""


def compose(canvas: Canvas, dice: Dice) -> None:
    """Paint a whole scene: backdrop, one to three people, and what stands before them."""
    light = Light(side=dice.uniform(-1, 1), hardness=dice.uniform(0, 1) ** 2)
    draw_backdrop(canvas, dice, light)
    count = dice.choose((1,) * 18 + (2, 3))
    w, h = canvas.width, canvas.height
    main = dice.choose((dice.uniform(0.25, 0.4), dice.uniform(0.32, 0.5), dice.uniform(0.42, 0.6))) * h
    if count > 1:
        main = min(main, 0.4 * h)
    middle = 0.5 + dice.bell(0.1)
    places = [(middle, main)]
    for other in range(1, count):
        side = -1.0 if (other % 2) == (middle > 0.5) else 1.0
        places.append((middle + side * dice.uniform(0.22, 0.42), main * dice.uniform(0.55, 0.95)))
    for x, scale in sorted(places, key=lambda place: place[1]):  # the nearest last
        top = max(dice.uniform(0.04, 0.3), 0.1 if scale < 0.4 * h else 0.0) * h
        y = top + 0.62 * scale
        if scale < 0.8 * main:
            y = min(y + 0.1 * h, 0.6 * h)
        if dice.chance(0.12):
            _chair(canvas, dice, light, x * w, y, scale)
        draw_person(canvas, dice, x=x * w, y=y, scale=scale, light=light)
    if dice.chance(0.07):
        _foreground(canvas, dice, light)
    if dice.chance(0.2):
        _cast_light(canvas, dice)


def compose_empty(canvas: Canvas, dice: Dice) -> None:
    """Paint a scene with nobody in it."""
    draw_backdrop(canvas, dice, Light(side=dice.uniform(-1, 1), hardness=dice.uniform(0, 1) ** 2))


def _chair(canvas: Canvas, dice: Dice, light: Light, x: float, y: float, scale: float) -> None:
    """A back rest, at times with a head rest that frames the head."""
    frame = Frame(x + dice.bell(0.15) * scale, y, scale)
    color = tint(dice.choose(CHAIRS), dice.uniform(0.8, 1.2))
    wide, top = dice.uniform(0.6, 1.35), dice.choose((dice.uniform(0.3, 0.9), dice.uniform(-0.7, 0.0)))
    rest = smooth(
        [
            (-wide * 0.7, top),
            (0, top - 0.08),
            (wide * 0.7, top),
            (wide, top + 0.5),
            (wide, 3.0),
            (wide * 0.8, 6.0),
            (-wide * 0.8, 6.0),
            (-wide, 3.0),
            (-wide, top + 0.5),
        ]
    )
    paint = shaded(dice, color, light, center=frame.x, radius=wide * scale, folds=0.1)
    canvas.fill(frame.place(rest), paint, person=None)
    if dice.chance(0.3):
        canvas.fill(frame.place(oval(0, top - 0.25, 0.45, 0.3)), tint(color, 0.9), person=None)


def _foreground(canvas: Canvas, dice: Dice, light: Light) -> None:
    """A table, a screen's edge, a cup, a microphone or a lamp's arm: it hides a part of the person."""
    w, h = canvas.width, canvas.height
    kind = dice.choose(("table", "table", "screen", "cup", "microphone", "pole"))
    color = any_color(dice)
    if kind == "table":
        edge = dice.uniform(0.86, 0.96) * h
        paint = shaded(dice, color, light, center=w / 2, radius=w, folds=0.1)
        canvas.fill(
            np.array([(0, edge + dice.bell(8)), (w, edge + dice.bell(8)), (w, h + 9), (0, h + 9)], np.float32),
            paint,
            person=False,
        )
    elif kind == "screen":
        left, top = dice.uniform(0.1, 0.6) * w, dice.uniform(0.72, 0.9) * h
        right = left + dice.uniform(0.25, 0.4) * w
        canvas.fill(box(left, top, right, h + 9), (38.0, 38.0, 42.0), person=False)
        canvas.fill(oval(0.5 * (left + right), 0.5 * (top + h), 8, 8), (190.0, 190.0, 196.0), person=None)
    elif kind == "cup":
        x, y, size = dice.uniform(0.2, 0.8) * w, dice.uniform(0.8, 0.95) * h, dice.uniform(0.06, 0.1) * h
        paint = shaded(dice, color, light, center=x, radius=size)
        canvas.fill(
            limb([(x + size, y), (x + 1.7 * size, y + 0.6 * size), (x + size, y + 1.3 * size)], (0.18 * size,)),
            paint,
            person=False,
        )
        canvas.fill(box(x - size, y - 0.4 * size, x + size, h + 9), paint, person=False)
    elif kind == "microphone":
        x, y, size = dice.uniform(0.3, 0.7) * w, dice.uniform(0.65, 0.85) * h, dice.uniform(0.04, 0.08) * h
        canvas.fill(
            limb([(x, y), (x + dice.bell(0.2) * w, h + 9)], (0.3 * size, 0.3 * size)), (50.0, 50.0, 54.0), person=False
        )
        canvas.fill(
            oval(x, y, size, 1.5 * size),
            shaded(dice, (42.0, 42.0, 46.0), light, center=x, radius=size, grain=0.3),
            person=False,
        )
    else:
        x, wide = dice.uniform(0.1, 0.9) * w, dice.uniform(0.006, 0.014) * w
        canvas.fill(limb([(x, -9), (x + dice.bell(0.1) * w, h + 9)], (wide, wide)), color, person=False)


def _cast_light(canvas: Canvas, dice: Dice) -> None:
    """A hard-edged patch of sun or shadow over everything, people too."""
    w, h = canvas.width, canvas.height
    x, wide, slant = dice.uniform(-0.2, 1.0) * w, dice.uniform(0.1, 0.5) * w, dice.uniform(-0.6, 0.6) * h
    patch = np.array([(x, -9), (x + wide, -9), (x + wide + slant, h + 9), (x + slant, h + 9)], np.float32)
    color, opacity = (
        ((255.0, 244.0, 214.0), dice.uniform(0.08, 0.3))
        if dice.chance(0.5)
        else ((10.0, 10.0, 16.0), dice.uniform(0.1, 0.4))
    )
    canvas.fill(patch, color, person=None, soft=dice.uniform(0.5, 6.0) * h / 360, opacity=opacity)
