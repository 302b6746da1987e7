"""What the codes in mask files mean: declared by the user, or inferred from the whole set and said aloud."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import DataError, unknown

IGNORE = 255
"""The class index of pixels that count nowhere, in masks that `MaskCoding.decode` has returned."""

_INVALID = 254


@dataclass(frozen=True)
class MaskCoding:
    """A meaning for the codes of a mask file.

    Attributes:
        name: As given to ``--mask-values``: ``0,1``, ``0,1,255``, ``0,255`` or ``index``.
        meaning: One phrase for people.
    """

    name: str
    meaning: str

    def decode(self, codes: Array, classes: int, path: Path) -> Array:
        """Codes of a file as class indices.

        Args:
            codes: [H, W], uint8.
            classes: How many classes the network has.
            path: The file, for the error.

        Returns:
            [H, W], uint8: 0..classes-1, or `IGNORE`.

        Raises:
            DataError: The file holds a code that has no meaning here.
        """
        import cv2

        decoded: Array = cv2.LUT(codes, self._table(classes))
        if np.count_nonzero(decoded == _INVALID):
            code = int(codes[decoded == _INVALID][0])
            raise DataError(
                f"the mask {path} holds the code {code}, which means nothing in masks coded {self.meaning}",
                f"declare another coding with --mask-values ({', '.join(CODINGS)}), or mend the mask",
            )
        return decoded

    def _table(self, classes: int) -> Array:
        table = np.full(256, _INVALID, np.uint8)
        if self.name == "0,255":
            table[[0, 255]] = [0, 1]
        else:
            top = classes if self.name == "index" else min(classes, 2)
            table[:top] = np.arange(top)
            if self.name != "0,1":
                table[255] = IGNORE
        return table


CODINGS = {
    coding.name: coding
    for coding in (
        MaskCoding("0,1", "{0 = background, 1 = person}"),
        MaskCoding("0,1,255", "{0 = background, 1 = person, 255 = ignore}"),
        MaskCoding("0,255", "{0 = background, 255 = person}"),
        MaskCoding("index", "{class index, 255 = ignore}"),
    )
}


def declared(name: str) -> MaskCoding:
    """The coding of a name given by the user."""
    if name not in CODINGS:
        raise unknown("coding of masks", name, CODINGS)
    return CODINGS[name]


def infer(codes_by_mask: Iterable[tuple[Path, frozenset[int]]], classes: int) -> MaskCoding:
    """What coding a whole set of masks has.

    Args:
        codes_by_mask: For every mask of the set the file and the codes that occur in it.
        classes: How many classes the network has.

    Raises:
        DataError: The masks allow more than one reading, contradict each other, or fit none.
    """
    only_255: Path | None = None  # 255 beside nothing but 0: "person" in one coding, "ignore" in the other
    with_255: Path | None = None  # 255 beside a class index: can only mean "ignore"
    indexed: Path | None = None  # class indices without 255
    top = 0
    for path, codes in codes_by_mask:
        strange = [code for code in codes if code >= classes and code != 255]
        if strange:
            raise DataError(
                f"the mask {path} holds the code {min(strange)}; a network of {classes} classes has 0 to {classes - 1}"
                " (and 255 for ignore)",
                "masks hold class indices, or 0 and 255; grey edges come from saving masks as JPEG or resizing them",
            )
        positive = codes - {0, 255}
        top = max([top, *positive])
        if positive and 255 in codes:
            with_255 = with_255 or path
        elif positive:
            indexed = indexed or path
        elif 255 in codes:
            only_255 = only_255 or path
    if only_255 and (with_255 or indexed):
        raise DataError(
            f"the masks are coded in two ways: {only_255} holds 0 and 255, {with_255 or indexed} holds class indices",
            "declare what 255 means: --mask-values 0,255 (person) or --mask-values 0,1,255 (ignore)",
        )
    if only_255:
        return CODINGS["0,255"]
    if top > 1:
        return CODINGS["index"]
    return CODINGS["0,1,255" if with_255 else "0,1"]
