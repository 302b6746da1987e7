"""The report: one self-contained HTML page that opens offline, with a table to sort, plots to hover and masks to compare.

Plotly's script is embedded compressed and inflated by the browser (``DecompressionStream``), which makes the page a
third as large. The table and the masks are plain HTML: they are there without any script.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from edgeseg import __version__
from edgeseg.core import atomic, plugins
from edgeseg.report import masks
from edgeseg.report.masks import Picture
from edgeseg.report.tables import Line


@dataclass(frozen=True)
class Stretch:
    """One stretch of a long run: when it ended, and how it was."""

    minute: float
    median_ms: float
    p90_ms: float
    temperature_c: float | None
    frequency_mhz: float | None


@dataclass(frozen=True)
class Section:
    """Everything about one device.

    Attributes:
        device: Its folder's name.
        title: Its name for people.
        facts: The environment.
        lines: One a variant.
        frontier: The variants that no other beats in both mIoU and latency.
        contested: Those that could be on the frontier by their intervals.
        samples: Latencies in ms.
        stretches: The long runs.
        pictures: The worst masks.
        notes: What is doubtful, in sentences.
    """

    device: str
    title: str
    facts: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    frontier: frozenset[str]
    contested: frozenset[str]
    samples: Mapping[str, Sequence[float]]
    stretches: Mapping[str, Sequence[Stretch]]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


def write(path: Path, sections: Sequence[Section]) -> None:
    """Write the page, atomically.

    Raises:
        MissingDependency: Plotly is not installed.
    """
    parts = resources.files("edgeseg.report") / "parts"
    document = Template((parts / "page.html").read_text(encoding="utf-8")).substitute(
        style=(parts / "page.css").read_text(encoding="utf-8"),
        script=(parts / "page.js").read_text(encoding="utf-8"),
        plotly=_plotly(),
        data=_embedded([_chart(section) for section in sections]),
        body="".join(_section(index, section) for index, section in enumerate(sections)),
        version=html.escape(__version__),
    )
    atomic.write_text(path, document)


def _plotly() -> str:
    """Plotly's script, gzip, base64."""
    plugins.require("plotly", extra="report", what="the report's plots")
    script = resources.files("plotly") / "package_data" / "plotly.min.js"
    return base64.b64encode(gzip.compress(script.read_bytes(), 9, mtime=0)).decode()


def _embedded(document: object) -> str:
    """JSON that may stand inside a script element: no tag can end it early."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _chart(section: Section) -> dict[str, object]:
    """What the script draws."""
    variants = []
    for line in section.lines:
        state = "on" if line.variant in section.frontier else "maybe" if line.variant in section.contested else "off"
        variants.append(
            {
                "name": line.variant,
                "label": f"{line.artifact.rpartition('/')[2]} ×{line.threads}",
                "backend": line.backend,
                "precision": line.precision,
                "threads": line.threads,
                "frontier": state,
                "ms": [None] * 3 if line.emulated else [line.median_ms, line.median_low_ms, line.median_high_ms],
                "miou": [line.miou, *_miou_bounds(line)],
                "mb": line.size_bytes / 1e6,
                "samples": list(section.samples.get(line.variant, ())),
                "stretches": [
                    [s.minute, s.median_ms, s.p90_ms, s.temperature_c, s.frequency_mhz]
                    for s in section.stretches.get(line.variant, ())
                ],
            }
        )
    return {"device": section.device, "variants": variants}


def _miou_bounds(line: Line) -> tuple[float | None, float | None]:
    """The interval of the plot: that of the loss against the reference, paired by pictures.

    Which pictures were drawn moves all artifacts alike and says nothing about one against the other.
    """
    if line.miou is None or line.miou_loss is None or line.miou_loss_low is None or line.miou_loss_high is None:
        return line.miou_low, line.miou_high
    reference = line.miou + line.miou_loss
    return reference - line.miou_loss_high, reference - line.miou_loss_low


_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("artifact", "", "text"),
    ("threads", "CPU threads of the runtime", "number"),
    ("median ms", "the network alone, with its 95 % bootstrap interval over rounds", "number"),
    ("against baseline", "ratio of latencies, paired by rounds, with its 95 % interval", "number"),
    ("mIoU", "dataset mIoU against the ground truth, with its 95 % bootstrap interval over the pictures", "number"),
    (
        "loss",
        "mIoU that was lost against the reference, in points of 100, with its 95 % interval, paired by pictures",
        "number",
    ),
    ("connectivity", "connectivity of the masks' pieces", "number"),
    ("flipped", "pixels with another class than in the reference's masks", "number"),
    (
        "executes",
        "the precision that the runtime says it computes in; of INT8 the share of the multiply-accumulates in integers",
        "text",
    ),
    ("MB", "size of the model's files", "number"),
    ("remarks", "", "words"),
    ("boundary", "boundary IoU", "number"),
    ("p90 ms", "nine of ten runs are at least so fast", "number"),
    ("before + behind ms", "median of pre-processing + median of post-processing", "number"),
    (
        "start + first ms",
        "import of the runtime and loading of the model + the first run, in a fresh process",
        "number",
    ),
    ("peak MB", "peak resident memory of a process with this artifact alone", "number"),
)


def _section(index: int, section: Section) -> str:
    facts = "".join(
        f"<div><dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd></div>" for key, value in section.facts
    )
    head = "".join(
        f'<th scope="col" data-kind="{kind}" aria-sort="none"><button type="button" title="{html.escape(what)}">'
        f"{html.escape(name)}</button></th>"
        for name, what, kind in _COLUMNS
    )
    body = "".join(_row(section, line) for line in section.lines)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in section.notes)
    synthetic = any(line.synthetic for line in section.lines)
    warning = (
        '<p class="banner">The pictures are synthetic: their mIoU is no mIoU of real photographs.</p>'
        if synthetic
        else ""
    )
    long_run = f'<h3>Sustained</h3><div class="plot" id="sustained-{index}"></div>' if section.stretches else ""
    return (
        f'<section id="device-{index}"><h2>{html.escape(section.title)} <small>{html.escape(section.device)}</small></h2>'
        f"{warning}"
        f'<div class="scroll"><table class="results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="key"><b class="good">✓</b> measured <b class="warn">!</b> measured, with doubts <b class="bad">✗</b> failed '
        f'· <span class="front">◆</span> on the frontier <span class="front">◇</span> could be</p>'
        f'<div class="two"><div><h3>IoU against latency <small>intervals of mIoU: of the loss against the reference</small></h3><div class="plot" id="pareto-{index}"></div></div>'
        f'<div><h3>Latency of single runs</h3><div class="plot" id="runs-{index}"></div></div></div>'
        f'<p class="key" id="key-{index}"></p>'
        f"{long_run}{masks.gallery(index, section.pictures)}"
        f"<details open><summary>Environment</summary><dl>{facts}</dl></details>"
        + (
            f"<details><summary>What is doubtful, and what to do ({len(section.notes)})</summary><ul>{notes}</ul></details>"
            if notes
            else ""
        )
        + "</section>"
    )


def _row(section: Section, line: Line) -> str:
    tone = {"✓": "good", "!": "warn", "✗": "bad"}[line.state]
    mark = "◆" if line.variant in section.frontier else "◇" if line.variant in section.contested else ""
    name = (
        f'<b class="{tone}">{line.state}</b> {html.escape(line.artifact)} <span class="front">{mark}</span>'
        f"<small>{html.escape(line.backend)} {html.escape(line.precision)}{', emulated' if line.emulated else ''}</small>"
    )
    ratio = (
        _with_interval(line.ratio, line.ratio_low, line.ratio_high, 3, "×")
        + f"<small>{html.escape(line.verdict)}</small>"
    )
    cells = [
        (line.artifact, f'<th scope="row">{name}</th>'),
        (line.threads, str(line.threads)),
        (line.median_ms, _with_interval(line.median_ms, line.median_low_ms, line.median_high_ms, 2)),
        (1.0 if line.verdict == "baseline" else line.ratio, ratio),
        (line.miou, _with_interval(line.miou, line.miou_low, line.miou_high, 4)),
        (line.miou_loss, _loss(line)),
        (line.connectivity, _number(line.connectivity, 4)),
        (line.flipped_share, "–" if line.flipped_share is None else f"{100 * line.flipped_share:.3f} %"),
        (line.executed, html.escape(line.executed) or "–"),
        (line.size_bytes, f"{line.size_bytes / 1e6:.2f}"),
        (line.failure or line.labels, html.escape(line.failure or line.labels)),
        (line.boundary_iou, _number(line.boundary_iou, 4)),
        (line.p90_ms, _with_interval(line.p90_ms, line.p90_low_ms, line.p90_high_ms, 2)),
        (_sum(line.prepare_ms, line.finish_ms), f"{_number(line.prepare_ms, 1)} + {_number(line.finish_ms, 1)}"),
        (_sum(line.import_ms, line.load_ms, line.first_ms), f"{_number(_sum(line.import_ms, line.load_ms), 0)} + {_number(line.first_ms, 0)}"),
        (line.peak_bytes, "–" if line.peak_bytes is None else f"{line.peak_bytes / 1e6:.0f}"),
    ]  # fmt: skip
    out = []
    for (value, cell), (_, _, kind) in zip(cells, _COLUMNS, strict=True):
        key = "" if value is None else html.escape(str(value), quote=True)
        out.append(
            cell.replace("<th ", f'<th data-value="{key}" ', 1)
            if cell.startswith("<th ")
            else f'<td data-kind="{kind}" data-value="{key}">{cell}</td>'
        )
    return f'<tr data-variant="{html.escape(line.variant, quote=True)}">{"".join(out)}</tr>'


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_interval(value: float | None, low: float | None, high: float | None, digits: int, sign: str = "") -> str:
    if value is None:
        return ""
    interval = "" if low is None or high is None else f"<small>{low:.{digits}f} … {high:.{digits}f}</small>"
    return f"{sign}{value:.{digits}f}{interval}"


def _loss(line: Line) -> str:
    if line.miou_loss is None:
        return "–"
    points = [
        None if value is None else 100 * value + 0.0
        for value in (line.miou_loss, line.miou_loss_low, line.miou_loss_high)
    ]
    return _with_interval(points[0], points[1], points[2], 2).replace("-0.00", "0.00")


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
