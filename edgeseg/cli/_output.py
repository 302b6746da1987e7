"""What commands print: tables and JSON on stdout; notes, complaints and progress on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_STYLES = {"good": "green", "bad": "red", "warn": "yellow", "soft": "dim", "": ""}


def complain(message: str, hint: str = "") -> None:
    """An error on stderr: what is wrong, and what mends it."""
    print(f"edgeseg: {message}", file=sys.stderr)
    if hint:
        print(f"   hint: {hint}", file=sys.stderr)


def note(sentence: str) -> None:
    """Something that the user should know, on stderr."""
    print(f"note: {sentence}", file=sys.stderr)


def plain(value: Any) -> Any:
    """Records, paths and NaN as JSON types."""
    import dataclasses
    import math

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def json(document: Any) -> None:
    """One JSON document on stdout."""
    import json as json_module

    print(json_module.dumps(plain(document), indent=2, ensure_ascii=False))


class Table:
    """A table on stdout: colours on a terminal, full width and no truncation in a pipe.

    Args:
        columns: Headings; one that ends in ``>`` is right-aligned.
    """

    def __init__(self, *columns: str, title: str = "") -> None:
        from rich import box
        from rich.table import Table as RichTable

        self._table = RichTable(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
        for column in columns:
            right = column.endswith(">")
            self._table.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold")

    def row(self, *cells: str, state: str = "") -> None:
        """Add a row; `state` is ``good``, ``bad``, ``warn``, ``soft`` or empty."""
        from rich.text import Text

        first = Text(cells[0], style=_STYLES[state])
        self._table.add_row(first, *[Text(cell) for cell in cells[1:]])

    def show(self) -> None:
        """Print it."""
        import shutil

        from rich.console import Console

        width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 220
        Console(width=width, highlight=False).print(self._table)


class Status:
    """A line on stderr that says what is being done; nothing is printed where stderr is no terminal."""

    def __init__(self) -> None:
        self._status: Any = None

    def __enter__(self) -> Status:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("starting")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, line: str) -> None:
        """Show another line."""
        if self._status is not None:
            self._status.update(line)


class Progress:
    """A bar on stderr, on a terminal only; call it with how many are done of how many.

    Args:
        what: What is being done.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
