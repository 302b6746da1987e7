"""Rows of figures as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Line:
    """One variant on one device, flat; None = not measured. Units are in the names; intervals are of 95 %.

    A line with `emulated` has latencies of an emulator, which are no measure of any device: no plot and no choice uses them.
    `executed` is the precision that the runtime says it computes in; `median_ms` and `p90_ms` are of the network
    alone, `prepare_ms` and `finish_ms` of what stands before and behind it; `ratio` is latency against the baseline's.
    """

    device: str
    variant: str
    artifact: str
    backend: str
    precision: str
    executed: str
    threads: int
    size_bytes: int
    state: str
    data: str = ""
    synthetic: bool | None = None
    images: int | None = None
    miou: float | None = None
    miou_low: float | None = None
    miou_high: float | None = None
    miou_loss: float | None = None
    miou_loss_low: float | None = None
    miou_loss_high: float | None = None
    foreground_iou: float | None = None
    boundary_iou: float | None = None
    connectivity: float | None = None
    flipped_share: float | None = None
    samples: int | None = None
    rounds: int | None = None
    median_ms: float | None = None
    median_low_ms: float | None = None
    median_high_ms: float | None = None
    p90_ms: float | None = None
    p90_low_ms: float | None = None
    p90_high_ms: float | None = None
    p99_ms: float | None = None
    prepare_ms: float | None = None
    finish_ms: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    verdict: str = ""
    start_ms: float | None = None
    import_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    peak_bytes: int | None = None
    sustained_ratio: float | None = None
    labels: str = ""
    failure: str = ""
    session: str = ""
    emulated: bool = False


def to_csv(lines: Sequence[Line]) -> str:
    """All figures, one line a variant; empty = not measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [field.name for field in fields(Line)]
    writer.writerow(names)
    for line in lines:
        writer.writerow(["" if getattr(line, name) is None else getattr(line, name) for name in names])
    return out.getvalue()


def to_markdown(lines: Sequence[Line]) -> str:
    """The figures that a README shows, as a table; a section a device."""
    sections = []
    for device in dict.fromkeys(line.device for line in lines):
        own = [line for line in lines if line.device == device]
        rows = [
            "| | artifact | threads | MB | executed | mIoU | loss | connectivity | flipped | median ms | p90 ms | against baseline | |",
            "|-|---|--:|--:|---|--:|--:|--:|--:|--:|--:|---|---|",
        ]
        rows += ["| " + " | ".join(_cells(line)) + " |" for line in own]
        sections.append(f"### {device}\n\n{_about(own[0])}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(sections)


def _about(line: Line) -> str:
    if not line.data:
        return "Masks were not measured."
    return f"Masks over {line.images} {'synthetic pictures' if line.synthetic else 'pictures'} (`{line.data}`)."


def _cells(line: Line) -> list[str]:
    median = _number(line.median_ms, 2)
    if line.median_low_ms is not None:
        median += f" [{line.median_low_ms:.2f} … {line.median_high_ms:.2f}]"
    ratio = line.verdict
    if line.ratio is not None:
        ratio = f"×{line.ratio:.3f} [{line.ratio_low:.3f} … {line.ratio_high:.3f}] {line.verdict}"
    return [
        line.state,
        line.artifact,
        str(line.threads),
        f"{line.size_bytes / 1e6:.2f}",
        line.executed or "–",
        _number(line.miou, 4),
        "–" if line.miou_loss is None else f"{100 * line.miou_loss:+.2f}".replace("-0.00", "+0.00"),
        _number(line.connectivity, 4),
        "–" if line.flipped_share is None else f"{100 * line.flipped_share:.3f} %",
        median,
        _number(line.p90_ms, 2),
        ratio,
        (line.failure or line.labels).replace("|", "\\|"),
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
