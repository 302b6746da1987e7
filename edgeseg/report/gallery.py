"""The gallery of masks: one HTML file with the pictures in which an artifact is furthest from its reference."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np

from edgeseg import __version__
from edgeseg.core import atomic
from edgeseg.core.arrays import Array
from edgeseg.data.images import write_jpeg, write_png
from edgeseg.report.masks import flipped_pixels

_PALETTE = np.array(
    [(17, 17, 20), (240, 240, 240), (230, 126, 34), (46, 204, 113), (52, 152, 219), (155, 89, 182), (241, 196, 15)],
    np.uint8,
)


@dataclass(frozen=True)
class Picture:
    """One row of the gallery.

    Attributes:
        name: The picture's name.
        caption: Figures, one phrase each.
        image: [H, W, 3], uint8, RGB.
        reference: [H, W], uint8 class indices: the reference's mask.
        artifact: [H, W], uint8 class indices: the artifact's mask.
    """

    name: str
    caption: tuple[str, ...]
    image: Array
    reference: Array
    artifact: Array


@dataclass(frozen=True)
class Section:
    """One artifact of the gallery: its name, whether it passed, figures for the whole data set, its worst pictures."""

    name: str
    passed: bool
    figures: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]


def write(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the gallery as one self-contained HTML file, atomically.

    Args:
        path: The file.
        title: What the pictures are.
        sections: One an artifact.
    """
    body = "".join(_section(section) for section in sections)
    page = _PAGE.substitute(title=html.escape(title), body=body, version=__version__)
    atomic.write_text(path, page)


def flip_map(picture: Picture) -> Array:
    """The picture in dim grey with the flipped pixels in colour: [H, W, 3], uint8, RGB."""
    grey = picture.image.astype(np.float32).mean(axis=2) * 0.45 + 20
    canvas = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    for pixels, colour in flipped_pixels(picture.reference, picture.artifact):
        canvas[pixels] = colour
    return canvas


def _section(section: Section) -> str:
    state = "ok" if section.passed else "bad"
    figures = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in section.figures
    )
    rows = "".join(_row(picture) for picture in section.pictures)
    return (
        f'<section><h2><span class="{state}">{"✓" if section.passed else "✗"}</span> {html.escape(section.name)}</h2>'
        f"<dl>{figures}</dl>{rows}</section>"
    )


def _row(picture: Picture) -> str:
    shown = (
        ("picture", "image/jpeg", write_jpeg(picture.image)),
        ("reference", "image/png", write_png(_coloured(picture.reference))),
        ("artifact", "image/png", write_png(_coloured(picture.artifact))),
        ("flipped pixels", "image/jpeg", write_jpeg(flip_map(picture))),
    )
    figures = "".join(
        f"<figure><img alt='{label} of {html.escape(picture.name, quote=True)}' loading='lazy' "
        f"src='data:{kind};base64,{base64.b64encode(content).decode()}'><figcaption>{label}</figcaption></figure>"
        for label, kind, content in shown
    )
    caption = " · ".join(map(html.escape, picture.caption))
    return f"<article><h3>{html.escape(picture.name)}<small>{caption}</small></h3><div class='row'>{figures}</div></article>"


def _coloured(mask: Array) -> Array:
    """[H, W] class indices → [H, W, 3] RGB; beyond the palette's end colours come round again."""
    return _PALETTE[mask % len(_PALETTE)]


_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>edgeseg: masks of $title</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#1b1d22, #e8e8ea); --soft: light-dark(#667, #9aa);
  --paper: light-dark(#fff, #15161a); --line: light-dark(#dde, #2c2e36); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 1500px; font: 15px/1.45 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.35rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; overflow-wrap: anywhere; }
h3 { font-size: .95rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h3 small { display: block; font-weight: normal; color: var(--soft); }
p, footer { color: var(--soft); }
.ok { color: #2a9d4a; } .bad { color: #d33; }
dl { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; margin: 0 0 1rem; }
dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; font-variant-numeric: tabular-nums; }
article { border-top: 1px solid var(--line); padding: .8rem 0; }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem; }
figure { margin: 0; } img { width: 100%; height: auto; display: block; border-radius: 4px; image-rendering: auto; }
figcaption { font-size: .8rem; color: var(--soft); padding-top: .15rem; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; vertical-align: -.05em; }
@media (max-width: 760px) { .row { grid-template-columns: repeat(2, 1fr); } body { padding: .8rem; } }
</style>
<h1>Masks of $title</h1>
<p>The pictures in which an artifact is furthest from its reference. Flipped pixels, each drawn 3 pixels wide:
<span class="key" style="background: rgb(255 64 48)"></span> foreground only in the artifact,
<span class="key" style="background: rgb(40 130 255)"></span> foreground only in the reference.</p>
$body
<footer>edgeseg $version</footer></html>
""")
