"""What is trained on: data sets joined into one list of pictures, kept decoded in memory, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeseg.core.arrays import Array
from edgeseg.core.errors import DataError
from edgeseg.data.dataset import Dataset, Sample, ahead, open_dataset
from edgeseg.training.augmentation import SYNTHETIC, Augmentation, augment

_BACKDROPS = 96
_STREAM_ORDER, _STREAM_PICTURE, _STREAM_BACKDROP = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """Images ``[N, 3, H, W]`` float32 in -1..1 (channels last in memory) and labels ``[N, H, W]`` int64."""

    images: Tensor
    labels: Tensor


def open_mix(text: str, *, mask_values: str = "") -> tuple[Dataset, ...]:
    """The data sets of a comma-joined list.

    A `sample:N` in training data means N synthetic portraits that `sample:N` elsewhere never shows.

    Raises:
        DataError: One of them is missing or empty, or has no masks.
    """
    datasets = []
    for part in text.split(","):
        dataset = open_dataset(part.strip(), mask_values=mask_values)
        if not dataset.has_masks:
            raise DataError(
                f"{part.strip()} has no masks to learn from", "list `image mask` pairs in a PaddleSeg list file"
            )
        datasets.append(dataset)
    return tuple(datasets)


class Pictures:
    """All pictures of a mix, decoded once.

    Args:
        datasets: From `open_mix`.
        size: (width, height) of the network's input. Larger pictures are kept at 2.5 times that.
        seed: Seed of order and augmentation.
        settings: Strength of the augmentation.
        synthetic_settings: The same for synthetic pictures.
        synthetic_share: Share of synthetic pictures in an epoch where photos and synthetic pictures are mixed; each
            epoch then shows all photos and the next synthetic ones in turn. 0 shows everything in every epoch.

    Raises:
        DataError: A file is missing or damaged, or a mask holds a class out of range.
    """

    def __init__(
        self,
        datasets: tuple[Dataset, ...],
        *,
        size: tuple[int, int],
        seed: int,
        settings: Augmentation,
        synthetic_settings: Augmentation = SYNTHETIC,
        synthetic_share: float = 0.0,
    ) -> None:
        self._size = size
        self._seed = seed
        self._settings = (settings, synthetic_settings)
        self._share = synthetic_share
        self._photos = [
            self._kept(sample) for dataset in datasets if not dataset.synthetic for sample in dataset.stream()
        ]
        count = sum(len(dataset) for dataset in datasets if dataset.synthetic)
        self._synthetic = list(ahead(self._painted, range(count)))
        wanted = _BACKDROPS if self._photos and settings.background > 0 else 0
        self._backdrops = list(ahead(self._backdrop, range(wanted)))

    def _kept(self, sample: Sample) -> tuple[Array, Array]:
        import cv2

        assert sample.mask is not None
        most = round(2.5 * self._size[0]), round(2.5 * self._size[1])
        height, width = sample.mask.shape
        if width <= most[0] and height <= most[1]:
            return sample.image, sample.mask
        return (
            cv2.resize(sample.image, most, interpolation=cv2.INTER_AREA),
            cv2.resize(sample.mask, most, interpolation=cv2.INTER_NEAREST_EXACT),
        )

    def _painted(self, index: int) -> tuple[Array, Array]:
        from edgeseg.data.sample import TRAINING_START, sample

        return self._kept(Sample(f"sample/{index}", *sample(TRAINING_START + index)))

    def _backdrop(self, index: int) -> Array:
        from edgeseg.data.sample import TRAINING_START, backdrop

        picture: Array = backdrop(TRAINING_START + index, width=2 * self._size[0], height=2 * self._size[1])
        return picture

    def epoch(self, number: int) -> list[tuple[int, bool]]:
        """The pictures of an epoch (from 0) in order: place in its list, and whether it is a synthetic one."""
        photos, synthetic = len(self._photos), len(self._synthetic)
        if self._share > 0 and photos and synthetic:
            take = min(synthetic, round(photos * self._share / (1 - self._share)))
            turn = [(number * take + step) % synthetic for step in range(take)]
        else:
            turn = list(range(synthetic))
        items = [(place, False) for place in range(photos)] + [(place, True) for place in turn]
        order = np.random.default_rng([self._seed, _STREAM_ORDER, number]).permutation(len(items))
        return [items[place] for place in order]

    def batches(self, number: int, batch_size: int) -> Iterator[Batch]:
        """The batches of an epoch, the next one prepared while one is used; a rest smaller than a batch is left out."""
        items = self.epoch(number)
        batch_size = min(batch_size, len(items))
        starts = range(0, len(items) - batch_size + 1, batch_size)

        def make(start: int) -> Batch:
            return self._batch(number, start, items[start : start + batch_size])

        return ahead(make, starts, threads=1)

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch."""
        count = len(self.epoch(0))
        return count // min(batch_size, count)

    def _batch(self, number: int, start: int, items: list[tuple[int, bool]]) -> Batch:
        images, masks = [], []
        for step, (place, synthetic) in enumerate(items):
            image, mask = (self._synthetic if synthetic else self._photos)[place]
            rng = np.random.default_rng([self._seed, _STREAM_PICTURE, number, start + step])
            backdrop = None if synthetic or not self._backdrops else self._backdrops[rng.integers(len(self._backdrops))]
            image, mask = augment(image, mask, self._size, rng, self._settings[synthetic], backdrop)
            images.append(image)
            masks.append(mask)
        # The memory stays in height-width-channel order, which is what the convolutions are fastest with.
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        return Batch(stacked, torch.from_numpy(np.stack(masks)).long())
