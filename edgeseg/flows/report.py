"""Results as something to look at: one HTML page, a CSV file, a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core import atomic
from edgeseg.core.errors import EdgesegError
from edgeseg.flows.bench import gallery_file, latest
from edgeseg.flows.bench.latest import Latest
from edgeseg.flows.bench.lines import line
from edgeseg.flows.pick import EQUAL_MIOU
from edgeseg.metrics import pareto
from edgeseg.report import page, tables
from edgeseg.report.masks import Picture
from edgeseg.report.tables import Line

SAMPLES = 400
"""Samples of a variant that the page's distributions are drawn from, spread over the session."""


@dataclass(frozen=True)
class ReportRequest:
    """What to write; None = not that one.

    Attributes:
        results: Files or folders of results.
        html: The page.
        csv: All figures, a line a variant.
        markdown: A table for a README.
    """

    results: tuple[Path, ...]
    html: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None


@dataclass(frozen=True)
class ReportResult:
    """What was written, of how much, and what could not be read."""

    written: tuple[Path, ...]
    lines: tuple[Line, ...]
    devices: tuple[str, ...]
    skipped: tuple[str, ...]


def report(request: ReportRequest) -> ReportResult:
    """Write what is asked for, each file atomically.

    Raises:
        EdgesegError: There are no results.
        MissingDependency: The page is asked for and the plotting library is not installed.
    """
    found = latest.read(request.results)
    lines = tuple(line(one.summary.session, one.row) for one in found.rows)
    skipped = [*map(str, found.bad), *found.skipped]
    written = []
    if request.html is not None:
        sections = [_section([one for one in found.rows if one.device == name], skipped) for name in found.devices()]
        page.write(request.html, sections)
        written.append(request.html)
    if request.csv is not None:
        atomic.write_text(request.csv, tables.to_csv(lines))
        written.append(request.csv)
    if request.markdown is not None:
        atomic.write_text(request.markdown, tables.to_markdown(lines))
        written.append(request.markdown)
    return ReportResult(tuple(written), lines, tuple(found.devices()), tuple(skipped))


def _section(rows: Sequence[Latest], skipped: list[str]) -> page.Section:
    session = rows[-1].summary.session
    lines = tuple(line(one.summary.session, one.row) for one in rows)
    on, contested = _frontier(lines)
    notes = [
        f"{one.row.variant.key}, {label.name}: {label.text}; {label.advice}" for one in rows for label in one.row.labels
    ]
    flips = dict.fromkeys(sentence for one in rows for sentence in one.summary.flips)
    return page.Section(
        device=session.device,
        title=(session.hello.device.get("board") or session.hello.device.get("cpu", session.device))
        + (", emulated: masks only" if session.emulated else ""),
        facts=_facts(rows),
        lines=lines,
        frontier=on,
        contested=contested,
        samples={
            one.row.variant.key: _thinned(one) for one in rows if one.row.rounds and not one.summary.session.emulated
        },
        stretches={
            one.row.variant.key: tuple(
                page.Stretch(
                    s.seconds / 60,
                    s.median_ns / 1e6,
                    s.p90_ns / 1e6,
                    s.conditions.temperature_c,
                    s.conditions.frequency_mhz,
                )
                for s in one.row.sustained
            )
            for one in rows
            if one.row.sustained
        },
        pictures=_pictures(rows, skipped),
        notes=(*notes, *flips),
    )


def _frontier(lines: Sequence[Line]) -> tuple[frozenset[str], frozenset[str]]:
    """The variants on the frontier of mIoU and median latency, and those that could be.

    mIoU that is a tenth of a point higher or less is no reason to take a slower artifact.
    """
    points, names = [], []
    for one in lines:
        if one.miou is None or one.median_ms is None or one.emulated:
            continue
        low, high = one.median_low_ms or one.median_ms, one.median_high_ms or one.median_ms
        points.append(pareto.Point(one.median_ms, low, high, one.miou))
        names.append(one.variant)
    on = pareto.frontier(points, tolerance=EQUAL_MIOU)
    perhaps = pareto.contested(points, tolerance=EQUAL_MIOU)
    return (
        frozenset(name for name, yes in zip(names, on, strict=True) if yes),
        frozenset(name for name, yes in zip(names, perhaps, strict=True) if yes),
    )


def _facts(rows: Sequence[Latest]) -> tuple[tuple[str, str], ...]:
    """The environment, from the newest session."""
    session = rows[-1].summary.session
    about, now = session.hello.device, session.hello.conditions
    runtimes = sorted({one.row.cold.loaded.runtime for one in rows if one.row.cold})
    memory = about.get("memory_bytes")
    facts = [
        ("processor", about.get("cpu", "")),
        ("board", about.get("board", "")),
        ("core type", " ".join(about[key] for key in ("soc", "core") if key in about)),
        ("cores", about.get("cores", "")),
        ("memory", f"{int(memory) / 2**30:.1f} GiB" if memory else ""),
        ("system", f"{about.get('system', '')} {about.get('machine', '')}".strip()),
        ("governor", session.hello.governor or "not told"),
        ("clock", f"{now.frequency_mhz:.0f} MHz" if now.frequency_mhz else "not told"),
        ("temperature", f"{now.temperature_c:.0f} °C" if now.temperature_c is not None else "not told"),
        ("load at the start", f"{now.load:.2f}" if now.load is not None else "not told"),
        ("background", _background(rows)),
        ("runtimes", ", ".join(runtimes)),
        ("Python, numpy", ", ".join(filter(None, map(session.hello.software.get, ("python", "numpy"))))),
        ("browser", about.get("browser", "")),
        ("pictures", _pictures_fact(rows)),
        ("measured", ", ".join(dict.fromkeys(one.summary.session.started for one in rows))),
        ("edgeseg", session.hello.software.get("edgeseg", "")),
    ]
    return tuple((name, value) for name, value in facts if value)


def _background(rows: Sequence[Latest]) -> str:
    from edgeseg.flows.bench.results import Round

    shares = [
        one.slice.conditions.background
        for recording in {id(one.recording): one.recording for one in rows}.values()
        for one in recording.of(Round)
        if one.slice.conditions.background is not None
    ]
    return f"{100 * float(np.median(shares)):.0f} % of the processor" if shares else "not told"


def _pictures_fact(rows: Sequence[Latest]) -> str:
    session = rows[-1].summary.session
    if not session.data:
        return "none: masks were not measured"
    return f"{session.images} {'synthetic ' if session.synthetic else ''}pictures ({Path(session.data).name})"


def _thinned(one: Latest) -> tuple[float, ...]:
    samples = np.concatenate([np.asarray(samples) for samples in one.row.rounds]) / 1e6
    if samples.size > SAMPLES:
        samples = samples[np.linspace(0, samples.size - 1, SAMPLES).astype(int)]
    return tuple(float(value) for value in np.round(samples, 4))


def _pictures(rows: Sequence[Latest], skipped: list[str]) -> tuple[Picture, ...]:
    """The worst masks of each artifact, from the newest session that kept some."""
    found: dict[str, list[Picture]] = {}
    for path in dict.fromkeys(one.recording.path.with_suffix(".masks.npz") for one in rows):
        try:
            shown = gallery_file.read(path)
        except EdgesegError as error:
            skipped.append(error.message)
            continue
        fresh: dict[str, list[Picture]] = {}
        for one in shown:
            fresh.setdefault(one.artifact, []).append(one)
        found.update(fresh)
    return tuple(picture for pictures in found.values() for picture in pictures)
