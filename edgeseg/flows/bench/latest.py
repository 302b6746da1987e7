"""The newest figures of every variant on every device, out of all sessions in some results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import EdgesegError
from edgeseg.flows.bench import results
from edgeseg.flows.bench.results import BadLine, Recording
from edgeseg.flows.bench.rows import Row, Summary, summarize


@dataclass(frozen=True)
class Latest:
    """A row with the session that it is from."""

    recording: Recording
    summary: Summary
    row: Row

    @property
    def device(self) -> str:
        """The device's folder name."""
        return self.summary.session.device


@dataclass(frozen=True)
class Found:
    """Everything that was read.

    Attributes:
        rows: By device, then in the order of the sessions' tables.
        bad: Lines that were skipped.
        skipped: Files that hold no session, with the reason.
    """

    rows: tuple[Latest, ...]
    bad: tuple[BadLine, ...]
    skipped: tuple[str, ...]

    def devices(self) -> list[str]:
        """The devices, in the order in which they were first measured."""
        return list(dict.fromkeys(one.device for one in self.rows))


def read(places: Sequence[Path]) -> Found:
    """Read results and keep the newest row of each variant that has figures.

    Args:
        places: Files, devices' folders or folders of those.

    Raises:
        EdgesegError: There is no readable session.
    """
    newest: dict[tuple[str, str], Latest] = {}
    bad: list[BadLine] = []
    skipped: list[str] = []
    summaries = []
    for path in sorted({path for place in places for path in results.files(place)}, key=lambda path: path.name):
        try:
            recording = results.read(path)
        except EdgesegError as error:
            skipped.append(error.message)
            continue
        bad += recording.bad
        summaries.append((recording, summarize(recording)))
    summaries.sort(key=lambda pair: pair[1].session.started)
    for recording, summary in summaries:
        for row in summary.rows:
            key = (summary.session.device, row.variant.key)
            # A run that failed does not hide the figures of the one before, unless there are none.
            if key not in newest or row.latency is not None or row.scores is not None:
                newest.pop(key, None)
                newest[key] = Latest(recording, summary, row)
    if not newest:
        raise EdgesegError(
            f"no session in {', '.join(map(str, places))} can be read" + (f": {skipped[0]}" if skipped else ""),
            "edgeseg bench --device cpu makes results",
        )
    return Found(tuple(newest.values()), tuple(bad), tuple(skipped))
