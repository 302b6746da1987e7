"""The table and the progress bar of ``edgeseg bench``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeseg.cli import _output

if TYPE_CHECKING:
    from edgeseg.flows.bench.rows import Row, Summary

_STATES = {"✓": "good", "!": "warn", "✗": "bad"}


def show(summary: Summary) -> None:
    """Print one row a variant, and what is doubtful below."""
    session = summary.session
    about = session.hello.device
    data = ""
    if session.data:
        kind = "synthetic pictures" if session.synthetic else "pictures"
        data = f", masks over {session.images} {kind} ({session.data})"
    table = _output.Table(
        "", "MB>", "executes", "mIoU>", "loss>", "connectivity>", "flipped>", "median ms>", "p90 ms>", "FPS>", "against baseline", "",
        title=f"{about.get('board') or about.get('cpu')}, {about.get('cores')} cores ({session.device}){data}"
        f"{', emulated: no times' if session.emulated else ''}",
    )  # fmt: skip
    for row in summary.rows:
        table.row(f"{row.state} {row.variant.key}", *_cells(row), state=_STATES[row.state])
    table.show()
    for name, text, advice in _remarks(summary):
        _output.note(f"{name}: {text}; {advice}")
    for sentence in summary.flips:
        _output.note(sentence)


def _remarks(summary: Summary) -> list[tuple[str, str, str]]:
    """Each kind of label once, with the row that shows it most plainly first in the table."""
    found: dict[str, tuple[list[str], str, str]] = {}
    for row in summary.rows:
        for label in row.labels:
            found.setdefault(label.name, ([], label.text, label.advice))[0].append(row.variant.key)
    return [
        (f"{name} ({keys[0]}{f' and {len(keys) - 1} more' if len(keys) > 1 else ''})", text, advice)
        for name, (keys, text, advice) in found.items()
    ]


def _cells(row: Row) -> list[str]:
    size = f"{row.variant.size_bytes / 1e6:.2f}"
    if row.failure is not None and row.latency is None:
        return [size, *["-"] * 9, row.failure.reason]
    scores, agreement, latency = row.scores, row.agreement, row.latency
    labels = ", ".join(row.shown_labels)
    if row.failure is not None:
        labels = row.failure.reason
    return [
        size,
        row.executed or "-",
        "-" if scores is None else f"{scores.miou:.4f}",
        "-" if row.miou_loss is None else f"{100 * row.miou_loss.value:+.2f}".replace("-0.00", "+0.00"),
        "-" if scores is None or scores.connectivity is None else f"{scores.connectivity:.4f}",
        "-" if agreement is None else f"{100 * agreement.flipped_share:.3f} %",
        "-" if latency is None else _median(row),
        "-" if latency is None or latency.p90 is None else f"{latency.p90.value / 1e6:.2f}",
        "-" if row.total_ns is None else f"{1e9 / row.total_ns:.1f}",
        _ratio(row),
        labels,
    ]


def _median(row: Row) -> str:
    assert row.latency is not None
    median = row.latency.median
    if median is None:
        return f"{row.latency.median_ns / 1e6:.2f}"
    return f"{median.value / 1e6:.2f} [{median.low / 1e6:.2f} … {median.high / 1e6:.2f}]"


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return row.verdict
    return f"×{row.ratio.value:.3f} [{row.ratio.low:.3f} … {row.ratio.high:.3f}] {row.verdict}"


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr, on a terminal only: what is being done, and how much of the whole is done."""
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda what, share: bar.update(task, completed=share, description=what)


class Bars:
    """A bar a device on stderr, on a terminal only."""

    def __enter__(self) -> Bars:
        self._tasks: dict[str, int] = {}
        self._progress = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, device: str, what: str, share: float) -> None:
        """Called from the threads of the sessions; rich locks."""
        if self._progress is None:
            return
        if device not in self._tasks:
            self._tasks[device] = self._progress.add_task(device, total=1.0)
            self._progress.start()
        self._progress.update(self._tasks[device], completed=share, description=f"{device}: {what}")  # type: ignore[arg-type]
