"""What is behind people: rooms, windows, shelves, streets, foliage, virtual backgrounds, and clutter."""

from __future__ import annotations

import numpy as np

from edgeseg.data.sample.canvas import Array, Canvas, Color, clouds, limb, oval, smooth
from edgeseg.data.sample.cloth import HAIR, SKIN, Light, any_color, any_pattern, shaded, tint
from edgeseg.data.sample.dice import Dice


def draw_backdrop(canvas: Canvas, dice: Dice, light: Light) -> None:
    """Fill the whole picture; no person is in it, however much some things look like one."""
    import cv2

    kind = dice.choose(("room",) * 9 + ("street",) * 4 + ("foliage",) * 3 + ("virtual",) * 2 + ("collage",))
    {"room": _room, "street": _street, "foliage": _foliage, "virtual": _virtual, "collage": _collage}[kind](
        canvas, dice, light
    )
    focus = dice.choose((0.0, dice.uniform(1.0, 3.0), dice.uniform(2.0, 5.0), dice.uniform(4.0, 9.0)))
    focus *= canvas.height / 360.0
    if focus > 1.2:  # half the size is a quarter of the work, and nobody can tell
        small = cv2.resize(canvas.image, (canvas.width // 2, canvas.height // 2), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), focus / 2)
        cv2.resize(small, (canvas.width, canvas.height), dst=canvas.image, interpolation=cv2.INTER_LINEAR)
    elif focus > 0.3:
        cv2.GaussianBlur(canvas.image, (0, 0), focus, dst=canvas.image)
    if dice.chance(0.3):
        cv2.convertScaleAbs(canvas.image, dst=canvas.image, alpha=dice.uniform(0.6, 1.3))


def box(left: float, top: float, right: float, bottom: float) -> Array:
    """A rectangle as a polygon."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def _thing(canvas: Canvas, points: Array, color: Color) -> None:
    canvas.fill(points, color, person=None)


def _wall(canvas: Canvas, dice: Dice, light: Light, color: Color) -> None:
    width, height = canvas.width // 4, canvas.height // 4
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    bright = 1 + 0.25 * light.side * light.hardness * x + dice.uniform(0, 0.12) * clouds(dice, width, height, (2, 5))
    canvas.wash(np.array(color, np.float32) * bright)


def _room(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = float(canvas.width), float(canvas.height)
    wall = (
        any_color(dice, saturation=(0.0, 0.35)) if dice.chance(0.7) else tint(dice.choose(SKIN), dice.uniform(0.8, 1.1))
    )
    _wall(canvas, dice, light, wall)
    if dice.chance(0.25):
        _bricks(canvas, dice, wall)
    if dice.chance(0.5):
        _thing(canvas, box(0, h * dice.uniform(0.7, 0.9), w, h), tint(wall, dice.uniform(0.4, 0.8)))
    items = [
        _window,
        _shelf,
        _door,
        _frame,
        _frame,
        _lamp,
        _plant,
        _plant,
        _curtain,
        _curtain,
        _cabinet,
        _door,
        _window,
        _shelf,
        _hung_coat,
        _vase,
    ]
    for _ in range(dice.integer(1, 5)):
        dice.choose(items)(canvas, dice, light)


def _bricks(canvas: Canvas, dice: Dice, color: Color) -> None:
    size = canvas.height / dice.uniform(12, 24)
    for row in range(int(canvas.height / size) + 1):
        for column in range(int(canvas.width / size / 2.2) + 2):
            x = (column - 0.5 * (row % 2)) * size * 2.2
            _thing(
                canvas,
                box(x + 1, row * size + 1, x + size * 2.2 - 1, (row + 1) * size - 1),
                tint(color, dice.uniform(0.75, 1.05)),
            )


def _window(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    left, top = dice.uniform(-0.1, 0.8) * w, dice.uniform(-0.2, 0.2) * h
    right, bottom = left + dice.uniform(0.15, 0.45) * w, top + dice.uniform(0.4, 0.9) * h
    glow = dice.uniform(190, 255)
    sky: Color = (glow * 0.95, glow * 0.98, glow)
    canvas.fill(
        box(left, top, right, bottom), shaded(dice, sky, Light(0, 0), center=left, radius=w, folds=0.15), person=None
    )
    bar = any_color(dice, saturation=(0.0, 0.3))
    for share in (0.0, 0.5, 1.0):
        x = left + share * (right - left)
        _thing(canvas, box(x - 3, top, x + 3, bottom), bar)
    if dice.chance(0.4):  # blinds
        step = dice.uniform(6, 16) * h / 360
        y = top
        while y < bottom:
            _thing(canvas, box(left, y, right, y + step * 0.55), tint(bar, 0.9))
            y += step
    if dice.chance(0.7):
        _glow(canvas, dice, 0.5 * (left + right), 0.5 * (top + bottom))


def _glow(canvas: Canvas, dice: Dice, x: float, y: float) -> None:
    """Stray light around something bright."""
    import cv2

    height = canvas.height
    u = (np.arange(0, canvas.width, 8, dtype=np.float32) - np.float32(x)) / np.float32(height)
    v = (np.arange(0, height, 8, dtype=np.float32) - np.float32(y)) / np.float32(height)
    spread = np.exp(-(u * u)[None, :] * 3 - (v * v)[:, None] * 3) * np.float32(255 * dice.uniform(0.05, 0.4))
    glow = cv2.resize(spread.astype(np.uint8), (canvas.width, height), interpolation=cv2.INTER_LINEAR)
    cv2.add(canvas.image, cv2.merge([glow, glow, glow]), dst=canvas.image)


def _shelf(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    left, right = dice.uniform(-0.1, 0.6) * w, 0.0
    right = left + dice.uniform(0.25, 0.7) * w
    wood = dice.choose(((92.0, 62.0, 40.0), (190.0, 160.0, 120.0), (225.0, 222.0, 216.0), (50.0, 42.0, 38.0)))
    rows = dice.integer(2, 5)
    step = h * dice.uniform(0.16, 0.28)
    top = dice.uniform(-0.1, 0.2) * h
    _thing(canvas, box(left, top, right, top + rows * step), tint(wood, 0.6))
    for row in range(rows):
        base, x = top + (row + 1) * step, left + 4
        while x < right - 6:
            wide, tall = dice.uniform(0.008, 0.03) * w, step * dice.uniform(0.5, 0.92)
            if dice.chance(0.85):
                _thing(canvas, box(x, base - tall, min(x + wide, right), base), any_color(dice))
            x += wide + 1
        _thing(canvas, box(left, base - 4, right, base + 2), wood)


def _door(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    left, top = dice.uniform(0, 0.85) * w, dice.uniform(0, 0.2) * h
    color = any_color(dice, saturation=(0.1, 0.5))
    right = left + dice.uniform(0.15, 0.28) * w
    _thing(canvas, box(left - 6, top - 6, right + 6, h), tint(color, 1.2))
    _thing(canvas, box(left, top, right, h), color)
    _thing(canvas, box(left + 10, top + 12, right - 10, 0.5 * (top + h)), tint(color, 0.85))
    _thing(canvas, oval(left + 10, 0.7 * h, 4, 4), (200.0, 180.0, 120.0))


def _frame(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    left, top = dice.uniform(0, 0.85) * w, dice.uniform(0, 0.5) * h
    right, bottom = left + dice.uniform(0.08, 0.25) * w, top + dice.uniform(0.12, 0.4) * h
    _thing(canvas, box(left - 5, top - 5, right + 5, bottom + 5), any_color(dice, saturation=(0, 0.4)))
    colors = (any_color(dice), any_color(dice))

    def paint(x: int, y: int, width: int, height: int) -> Array:
        share = np.clip(clouds(dice, width, height, (3, 7)) * 2 + 0.5, 0, 1)
        mixed: Array = np.array(colors[0], np.float32) * share + np.array(colors[1], np.float32) * (1 - share)
        return mixed

    canvas.fill(box(left, top, right, bottom), paint, person=None)


def _lamp(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    x, y, size = dice.uniform(0, 1) * w, dice.uniform(0.1, 0.6) * h, dice.uniform(0.06, 0.14) * h
    _thing(canvas, box(x - 2, y, x + 2, h), (60.0, 56.0, 52.0))
    _thing(
        canvas,
        np.array(
            [(x - size * 0.5, y - size), (x + size * 0.5, y - size), (x + size, y + size), (x - size, y + size)],
            np.float32,
        ),
        (255.0, 238.0, 200.0),
    )
    _glow(canvas, dice, x, y)


def _plant(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    x, y = dice.uniform(0, 1) * w, dice.uniform(0.5, 1.0) * h
    green: Color = (dice.uniform(20, 90), dice.uniform(80, 150), dice.uniform(20, 80))
    for _ in range(dice.integer(8, 18)):
        reach, bend = dice.uniform(0.15, 0.45) * h, dice.bell(0.25) * h
        leaf = limb(
            [(x, y), (x + bend * 0.4, y - reach * 0.6), (x + bend, y - reach)], (2, dice.uniform(0.01, 0.03) * h, 1)
        )
        _thing(canvas, leaf, tint(green, dice.uniform(0.6, 1.3)))
    _thing(
        canvas,
        np.array(
            [(x - 0.07 * h, y), (x + 0.07 * h, y), (x + 0.05 * h, y + 0.16 * h), (x - 0.05 * h, y + 0.16 * h)],
            np.float32,
        ),
        any_color(dice),
    )


def _curtain(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    left = dice.choose((0.0, dice.uniform(0.6, 0.85))) * w
    color, phase = any_color(dice, saturation=(0.1, 0.6)), dice.uniform(0.05, 0.2)

    def paint(x: int, y: int, width: int, height: int) -> Array:
        wave = 1 + 0.22 * np.sin(np.arange(x, x + width, dtype=np.float32) * np.float32(phase))
        folds: Array = np.array(color, np.float32) * np.broadcast_to(wave[None, :, None], (height, width, 1))
        return folds

    canvas.fill(box(left, 0, left + dice.uniform(0.12, 0.3) * w, h), paint, person=None)


def _hung_coat(canvas: Canvas, dice: Dice, light: Light) -> None:
    """Clothes on a hook: shoulders and no head."""
    w, h = canvas.width, canvas.height
    x, y, size = dice.uniform(0.05, 0.95) * w, dice.uniform(0.1, 0.5) * h, dice.uniform(0.12, 0.3) * h
    shape = smooth(
        [(0, -0.1), (0.3, 0), (0.7, 0.25), (0.8, 1.6), (0.6, 2.6), (-0.6, 2.6), (-0.8, 1.6), (-0.7, 0.25), (-0.3, 0)]
    )
    paint = shaded(dice, any_color(dice), light, center=x, radius=size, pattern=any_pattern(dice, size), folds=0.2)
    canvas.fill(shape * np.float32(size) + np.array([x, y], np.float32), paint, person=None)


def _cabinet(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    color, count = any_color(dice, saturation=(0, 0.5)), dice.integer(2, 6)
    top, step = dice.uniform(-0.2, 0.6) * h, w / count
    tall = dice.uniform(0.25, 0.5) * h
    for column in range(count):
        _thing(canvas, box(column * step, top, (column + 1) * step, top + tall), tint(color, 0.7))
        _thing(canvas, box(column * step + 3, top + 3, (column + 1) * step - 3, top + tall - 3), color)
        _thing(canvas, oval((column + 0.85) * step, top + tall * 0.6, 3, 7), tint(color, 0.4))


def _vase(canvas: Canvas, dice: Dice, light: Light) -> None:
    """A round thing in the colours of skin or hair, about as large as a head."""
    w, h = canvas.width, canvas.height
    x, y, size = dice.uniform(0, 1) * w, dice.uniform(0.3, 0.9) * h, dice.uniform(0.05, 0.16) * h
    color = dice.choose(SKIN) if dice.chance(0.5) else dice.choose(HAIR)
    shape = oval(x, y, size * dice.uniform(0.7, 1.1), size * dice.uniform(0.9, 1.4))
    canvas.fill(shape, shaded(dice, color, light, center=x, radius=size), person=None)


def _street(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    _wall(canvas, dice, light, dice.choose(((190.0, 210.0, 235.0), (225.0, 228.0, 232.0), (130.0, 160.0, 205.0))))
    x = -0.05 * w
    while x < w:
        wide, top = dice.uniform(0.1, 0.35) * w, dice.uniform(-0.2, 0.5) * h
        color = any_color(dice, saturation=(0.05, 0.45))
        _thing(canvas, box(x, top, x + wide, h), color)
        rows, columns = dice.integer(3, 8), dice.integer(2, 6)
        pane = tint(color, dice.uniform(0.3, 0.7)) if dice.chance(0.7) else (220.0, 230.0, 240.0)
        for row in range(rows):
            for column in range(columns):
                px, py = x + (column + 0.25) * wide / columns, top + (row + 0.25) * h / rows
                _thing(canvas, box(px, py, px + 0.5 * wide / columns, py + 0.5 * h / rows), pane)
        x += wide
    _thing(canvas, box(0, h * dice.uniform(0.75, 0.95), w, h), (110.0, 108.0, 106.0))
    for _ in range(dice.integer(0, 4)):  # cars and signs
        cx, cy, size = dice.uniform(0, 1) * w, dice.uniform(0.6, 0.95) * h, dice.uniform(0.05, 0.14) * h
        color = any_color(dice)
        _thing(
            canvas,
            smooth(
                [
                    (cx - 2.2 * size, cy),
                    (cx - 1.2 * size, cy - size),
                    (cx + 1.2 * size, cy - size),
                    (cx + 2.2 * size, cy),
                    (cx + 2.2 * size, cy + size),
                    (cx - 2.2 * size, cy + size),
                ]
            ),
            color,
        )
        _thing(canvas, box(cx - size, cy - 0.8 * size, cx + size, cy - 0.1 * size), (40.0, 46.0, 54.0))
    if dice.chance(0.5):
        px = dice.uniform(0, 1) * w
        _thing(canvas, box(px - 3, 0, px + 3, h), (70.0, 72.0, 76.0))
        _thing(canvas, oval(px, dice.uniform(0.1, 0.4) * h, 0.07 * h, 0.07 * h), any_color(dice))


def _foliage(canvas: Canvas, dice: Dice, light: Light) -> None:
    w, h = canvas.width, canvas.height
    dark: Color = (dice.uniform(15, 60), dice.uniform(40, 90), dice.uniform(15, 50))
    bright: Color = (dice.uniform(110, 220), dice.uniform(150, 230), dice.uniform(60, 160))
    share = np.clip(clouds(dice, w // 2, h // 2, (5, 13, 40, 90)) * 2.2 + dice.uniform(0.2, 0.6), 0, 1)
    canvas.wash(np.array(dark, np.float32) * (1 - share) + np.array(bright, np.float32) * share)
    if dice.chance(0.4):
        _thing(canvas, box(0, h * dice.uniform(0.6, 0.9), w, h), any_color(dice, saturation=(0, 0.3)))
    for _ in range(dice.integer(0, 3)):
        x, wide = dice.uniform(0, 1) * w, dice.uniform(0.01, 0.05) * w
        _thing(
            canvas,
            limb([(x, 0), (x + dice.bell(20), 0.5 * h), (x, h)], (wide * 0.6, wide * 0.8, wide)),
            (70.0, 56.0, 44.0),
        )


def _virtual(canvas: Canvas, dice: Dice, light: Light) -> None:
    """A drawn gradient, as conference programs put behind people."""
    a, b = np.array(any_color(dice), np.float32), np.array(any_color(dice), np.float32)
    u = np.linspace(0, 1, canvas.width // 4, dtype=np.float32)[None, :, None]
    v = np.linspace(0, 1, canvas.height // 4, dtype=np.float32)[:, None, None]
    turn = dice.uniform(0, 1)
    canvas.wash(a + (b - a) * (turn * u + (1 - turn) * v))
    for _ in range(dice.integer(0, 12)):
        blob = oval(
            dice.uniform(0, 1) * canvas.width,
            dice.uniform(0, 1) * canvas.height,
            dice.uniform(5, 90),
            dice.uniform(5, 90),
        )
        canvas.fill(blob, any_color(dice), person=None, soft=dice.uniform(0, 8), opacity=dice.uniform(0.1, 0.6))


def _collage(canvas: Canvas, dice: Dice, light: Light) -> None:
    """Clutter without sense: overlapping boxes, ovals and blobs with patterns, in any colour, skin and hair too."""
    w, h = canvas.width, canvas.height
    _wall(canvas, dice, light, any_color(dice))
    for _ in range(dice.integer(4, 16)):
        x, y = dice.uniform(-0.1, 1.1) * w, dice.uniform(-0.1, 1.1) * h
        a, b = dice.uniform(0.02, 0.25) * w, dice.uniform(0.03, 0.35) * h
        shape = dice.integer(0, 2)
        if shape == 0:
            points = box(x - a, y - b, x + a, y + b)
        elif shape == 1:
            points = oval(x, y, a, b)
        else:
            points = smooth(oval(x, y, a, b, count=9, wobble=1 + 0.25 * dice.bells(9)))
        color = dice.choose((any_color(dice), any_color(dice), dice.choose(SKIN), dice.choose(HAIR)))
        paint = shaded(dice, color, light, center=x, radius=a, pattern=any_pattern(dice, b), folds=0.1)
        canvas.fill(points, paint, person=None)
