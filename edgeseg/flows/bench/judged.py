"""What pictures were judged to be, kept beside a session's results until its masks are finished.

Judging thousands of pictures on a slow board takes hours; a session that is resumed goes on with the first picture that
is missing here. One line a chunk of pictures; a line that was left half-written is judged anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.metrics.quality import ImageAgreement, ImageQuality

SUFFIX = ".judged.part"
"""Of the file beside a session's results."""


@dataclass(frozen=True)
class Judgement:
    """One mask of one picture.

    Attributes:
        name: Of the picture.
        quality: Against the ground truth; None: there is none.
        agreement: With the reference's mask; None: this is the reference's, or there is none.
    """

    name: str
    quality: ImageQuality | None
    agreement: ImageAgreement | None

    @property
    def flipped_share(self) -> float:
        """Share of the pixels that are not as in the reference's mask; 0 without one."""
        return self.agreement.flipped_share if self.agreement is not None else 0.0

    @property
    def miou(self) -> float | None:
        """mIoU of the picture alone; None without ground truth."""
        return self.quality.miou if self.quality is not None else None


Chunk = Mapping[str, Sequence[Judgement]]
"""Item, or ``reference``, to its judgements of some pictures that follow one another."""


class Shelf:
    """The judgements of one session; without a path nothing is kept.

    Args:
        path: The file.
        classes: Number of classes; what was kept with another number is dropped.
        images: Names of the data set's pictures; what was kept of others is dropped.
    """

    def __init__(self, path: Path | None, classes: int, images: Sequence[str]) -> None:
        self._path, self._classes, self._images = path, classes, images

    def read(self, items: Sequence[str]) -> Iterator[Chunk]:
        """What is there of the first pictures, as long as each of `items` was judged on them."""
        try:
            lines = self._path.read_bytes().split(b"\n")[:-1] if self._path is not None else []
        except OSError:
            return
        start = 0
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["start"] != start:
                    continue
                chunk = {item: [self._judgement(one) for one in entry["items"][item]] for item in items}
            except (ValueError, KeyError, TypeError, IndexError):
                continue  # half a line, or an item is missing: these pictures were judged again further down
            count = len(next(iter(chunk.values()), ()))
            names = list(self._images[start : start + count])
            if not count or any([one.name for one in found] != names for found in chunk.values()):
                continue
            start += count
            yield chunk

    def keep(self, start: int, chunk: Chunk) -> None:
        """Append the judgements of the pictures from number `start` on."""
        if self._path is None:
            return
        line = json.dumps(
            {"start": start, "items": {key: [_entry(one) for one in found] for key, found in chunk.items()}}
        )
        with self._path.open("ab") as handle:
            if handle.tell() and not self._ends_whole():
                handle.write(b"\n")
            handle.write(line.encode() + b"\n")

    def remove(self) -> None:
        """The masks are finished."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _ends_whole(self) -> bool:
        assert self._path is not None
        with self._path.open("rb") as handle:
            handle.seek(-1, 2)
            return handle.read(1) == b"\n"

    def _judgement(self, entry: Mapping[str, Any]) -> Judgement:
        quality = agreement = None
        name = str(entry["name"])
        if "matrix" in entry:
            found = entry["connectivity"]
            first, second = entry["boundary"]
            connectivity = None if found is None else float(found)
            quality = ImageQuality(name, self._matrix(entry["matrix"]), (int(first), int(second)), connectivity)
        if "against" in entry:
            agreement = ImageAgreement(name, self._matrix(entry["against"]), float(entry["flipped_share"]))
        return Judgement(name, quality, agreement)

    def _matrix(self, given: Any) -> Array:
        matrix = np.asarray(given, np.int64)
        if matrix.shape != (self._classes, self._classes):
            raise ValueError("another number of classes")
        return matrix


def _entry(judged: Judgement) -> dict[str, object]:
    entry: dict[str, object] = {"name": judged.name}
    if judged.quality is not None:
        quality = judged.quality
        entry.update(
            matrix=quality.matrix.tolist(),
            boundary=[int(count) for count in quality.boundary],
            connectivity=quality.connectivity,
        )
    if judged.agreement is not None:
        agreement = judged.agreement
        entry.update(against=agreement.matrix.tolist(), flipped_share=agreement.flipped_share)
    return entry
