"""Data sets: folder pairs, PaddleSeg list files, images alone, and the synthetic sample set.

Nothing is kept: a data set knows its file names, and `Dataset.stream` decodes ahead in threads by a few pictures only,
so memory stays flat however many pictures there are.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import DataError
from edgeseg.data import masks as mask_codings
from edgeseg.data.images import IMAGE_SUFFIXES, read_image, read_mask

Item = TypeVar("Item")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Sample:
    """One decoded picture.

    Attributes:
        name: What to call it in a table: the path below the data set's folder.
        image: [H, W, 3], uint8, RGB.
        mask: [H, W], uint8: class indices, 255 = ignore; None where the data set has no masks.
    """

    name: str
    image: Array
    mask: Array | None


@dataclass(frozen=True)
class Pair:
    """The files of one sample; a synthetic one has neither, but an index."""

    name: str
    image: Path | None
    mask: Path | None
    index: int = 0


@dataclass(frozen=True)
class Dataset:
    """An ordered set of pictures, with masks or without.

    Attributes:
        name: As the user wrote it.
        pairs: The samples, in order.
        synthetic: Whether the pictures are generated; tables say so.
        coding: What the codes of the mask files mean; None without masks.
        inferred: Whether `coding` was inferred and not declared.
        classes: How many classes the masks may have.
    """

    name: str
    pairs: tuple[Pair, ...]
    synthetic: bool = False
    coding: mask_codings.MaskCoding | None = None
    inferred: bool = False
    classes: int = 2

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def has_masks(self) -> bool:
        """Whether every sample has a ground-truth mask."""
        return self.synthetic or self.coding is not None

    def read(self, index: int) -> Sample:
        """Decode one sample.

        Raises:
            DataError: A file is missing or damaged, or the mask has another size than its image; files are named.
        """
        pair = self.pairs[index]
        if pair.image is None:
            from edgeseg.data.sample import sample

            image, mask = sample(pair.index)
            return Sample(pair.name, image, mask)
        image = read_image(pair.image)
        if pair.mask is None or self.coding is None:
            return Sample(pair.name, image, None)
        codes = read_mask(pair.mask)
        if codes.shape != image.shape[:2]:
            raise DataError(
                f"the mask {pair.mask} is {codes.shape[1]}x{codes.shape[0]}, "
                f"its image {pair.image} is {image.shape[1]}x{image.shape[0]}",
                "a mask has the size of its image, after the image's EXIF rotation",
            )
        return Sample(pair.name, image, self.coding.decode(codes, self.classes, pair.mask))

    def stream(self, first: int = 0) -> Iterator[Sample]:
        """All samples in order, from number `first` on, decoded ahead in threads, a bounded few at a time."""
        return ahead(self.read, range(first, len(self.pairs)))

    def head(self, count: int) -> Dataset:
        """The first `count` samples spread evenly over the set, so that one scene does not stand for all."""
        if count >= len(self.pairs):
            return self
        step = len(self.pairs) / count
        return replace(self, pairs=tuple(self.pairs[int(index * step)] for index in range(count)))


def ahead(work: Callable[[Item], Out], items: Iterable[Item], *, threads: int = 0) -> Iterator[Out]:
    """``map(work, items)`` in threads, in order, with at most a few results waiting.

    An error in `work` is raised when its turn comes; leaving the loop early cancels what has not started.
    """
    threads = threads or min(4, os.cpu_count() or 1)
    waiting: deque[Future[Out]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="edgeseg-data")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def open_dataset(text: str, *, mask_values: str = "", classes: int = 2) -> Dataset:
    """A data set from what a user writes after ``--data``.

    Args:
        text: A folder with ``images/`` and ``masks/``, a folder of images, one image, a PaddleSeg list file, or
            ``sample``; with ``:N`` behind it only N pictures, spread evenly over the set.
        mask_values: The coding of the masks (see `edgeseg.data.masks.CODINGS`); empty to infer it from all masks.
        classes: How many classes the network has.

    Raises:
        DataError: There is nothing there, it is empty, a listed file is missing, or the masks' coding is mixed.
    """
    place, count = _split_count(text)
    if place == "sample":
        pairs = tuple(Pair(f"sample/{index}", None, None, index) for index in range(count or 40))
        return Dataset(text, pairs, synthetic=True)
    path = Path(place)
    if path.is_dir():
        found = _folder_pairs(path)
    elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        found = (Pair(path.name, path, None),)
    elif path.is_file():
        found = _listed_pairs(path)
    else:
        raise DataError(
            f"there is no data set at {place}",
            "give a folder with images/ and masks/, a PaddleSeg list file, or sample:N for synthetic portraits",
        )
    dataset = Dataset(text, found, classes=classes)
    if found[0].mask is not None:
        if mask_values:
            dataset = replace(dataset, coding=mask_codings.declared(mask_values))
        else:
            # All masks are looked at, also when only a few pictures are asked for: a few may look unambiguous.
            coding = mask_codings.infer(ahead(_codes, found), classes)
            dataset = replace(dataset, coding=coding, inferred=True)
    return dataset.head(count) if count else dataset


def _split_count(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.+):(\d+)", text)
    if not match or Path(text).exists():
        return text, 0
    if int(match[2]) < 1:
        raise DataError(f"{text} asks for no pictures at all", f"{match[1]}:40")
    return match[1], int(match[2])


def _images_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())


def _folder_pairs(folder: Path) -> tuple[Pair, ...]:
    images_folder = folder / "images" if (folder / "images").is_dir() else folder
    masks_folder = folder / "masks"
    files = _images_below(images_folder)
    if not files:
        raise DataError(f"the data set {folder} is empty: no images in {images_folder}")
    if images_folder is folder or not masks_folder.is_dir():
        return tuple(Pair(str(file.relative_to(folder)), file, None) for file in files)
    by_stem = {file.relative_to(masks_folder).with_suffix(""): file for file in _images_below(masks_folder)}
    pairs = []
    for file in files:
        stem = file.relative_to(images_folder).with_suffix("")
        if stem not in by_stem:
            raise DataError(
                f"the image {file} has no mask {masks_folder / stem}.png",
                "add the mask, or list the pairs that exist in a PaddleSeg list file",
            )
        pairs.append(Pair(str(file.relative_to(folder)), file, by_stem[stem]))
    return tuple(pairs)


def _listed_pairs(path: Path) -> tuple[Pair, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is not a list file of images and masks: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) > 2:
            raise DataError(
                f"{path}, line {number}: {len(parts)} columns, expected `image mask` or `image`",
                "file names with spaces cannot stand in a PaddleSeg list file; rename them",
            )
        image = path.parent / parts[0]
        mask = path.parent / parts[1] if len(parts) == 2 else None
        for file in (image, mask):
            if file is not None and not file.is_file():
                raise DataError(f"{path}, line {number}: the file {file} does not exist")
        pairs.append(Pair(parts[0], image, mask))
    if not pairs:
        raise DataError(f"the data set {path} is empty: it lists no image")
    with_mask = [pair for pair in pairs if pair.mask is not None]
    if with_mask and len(with_mask) < len(pairs):
        bare = next(pair for pair in pairs if pair.mask is None)
        raise DataError(f"{path} lists masks for some images only; {bare.name} has none")
    return tuple(pairs)


def _codes(pair: Pair) -> tuple[Path, frozenset[int]]:
    assert pair.mask is not None
    seen = np.bincount(read_mask(pair.mask).ravel(), minlength=256)
    return pair.mask, frozenset(np.flatnonzero(seen).tolist())
