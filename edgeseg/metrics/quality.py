"""The quality of masks over a data set, gathered image by image in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.metrics.boundary import boundary_counts
from edgeseg.metrics.confusion import accuracy, confusion, iou, mean_iou
from edgeseg.metrics.connectivity import connectivity


@dataclass(frozen=True)
class ImageQuality:
    """Everything counted on one image; `Quality` sums these."""

    name: str
    matrix: Array
    boundary: tuple[int, int]
    connectivity: float | None

    @property
    def miou(self) -> float:
        """mIoU of this image alone."""
        return mean_iou(self.matrix)


@dataclass(frozen=True)
class QualityScores:
    """Scores of masks against the ground truth; None = not measured.

    Attributes:
        images: How many images were counted.
        miou: Dataset mIoU, of one summed confusion matrix.
        foreground_iou: Dataset IoU of everything but background.
        boundary_iou: Dataset boundary IoU of the foreground.
        connectivity: Mean over the images of the mean over the classes.
        accuracy: Share of pixels with the right class.
        worst_image: The image with the lowest mIoU of its own.
        worst_miou: That mIoU.
    """

    images: int
    miou: float
    foreground_iou: float
    boundary_iou: float | None
    connectivity: float | None
    accuracy: float
    worst_image: str
    worst_miou: float


def measure(name: str, truth: Array, predicted: Array, classes: int) -> ImageQuality:
    """Count one image; safe to call from several threads.

    Args:
        name: The image.
        truth: [H, W], uint8 class indices, 255 = ignore.
        predicted: [H, W], uint8 class indices.
        classes: Number of classes.
    """
    return ImageQuality(
        name,
        confusion(truth, predicted, classes),
        boundary_counts(truth, predicted),
        connectivity(truth, predicted, classes),
    )


class Quality:
    """Sums `ImageQuality` of a data set."""

    def __init__(self, classes: int) -> None:
        self._matrix = np.zeros((classes, classes), np.int64)
        self._boundary = np.zeros(2, np.int64)
        self._connectivity: list[float] = []
        self._images = 0
        self._worst: tuple[float, str] = (math.inf, "")

    def add(self, image: ImageQuality) -> None:
        """Count one image."""
        self._images += 1
        self._matrix += image.matrix
        self._boundary += image.boundary
        if image.connectivity is not None:
            self._connectivity.append(image.connectivity)
        own = image.miou
        if not math.isnan(own):
            self._worst = min(self._worst, (own, image.name))

    def scores(self) -> QualityScores | None:
        """The scores so far; None before the first image that has a pixel to count."""
        if not self._matrix.sum():
            return None
        foreground = _foreground(self._matrix)
        return QualityScores(
            images=self._images,
            miou=mean_iou(self._matrix),
            foreground_iou=float(iou(foreground)[1]),
            boundary_iou=float(self._boundary[0] / self._boundary[1]) if self._boundary[1] else None,
            connectivity=math.fsum(self._connectivity) / len(self._connectivity) if self._connectivity else None,
            accuracy=accuracy(self._matrix),
            worst_image=self._worst[1],
            worst_miou=self._worst[0],
        )


def _foreground(matrix: Array) -> Array:
    """A confusion matrix with all classes but background taken together."""
    return np.array([[matrix[0, 0], matrix[0, 1:].sum()], [matrix[1:, 0].sum(), matrix[1:, 1:].sum()]], dtype=np.int64)


@dataclass(frozen=True)
class AgreementScores:
    """Agreement of an artifact's masks with the reference's.

    Attributes:
        images: How many images were compared.
        pixels: How many pixels that were.
        flipped_pixels: Pixels that have another class than in the reference's mask.
        flipped_share: Their share.
        images_changed: Images with at least one such pixel.
        miou_to_reference: Dataset mIoU with the reference's masks taken as the truth.
        worst_image: The image with the largest share of flipped pixels.
        worst_flipped_share: That share.
        constant: Whether the reference gave one and the same class to every pixel of every image; agreement with such
            masks proves nothing.
    """

    images: int
    pixels: int
    flipped_pixels: int
    flipped_share: float
    images_changed: int
    miou_to_reference: float
    worst_image: str
    worst_flipped_share: float
    constant: bool


@dataclass(frozen=True)
class ImageAgreement:
    """How far two masks of one image agree; `Agreement` sums these.

    Attributes:
        name: The image.
        matrix: [C, C] confusion matrix with the reference's mask as the truth.
        flipped_share: Share of pixels whose classes differ.
    """

    name: str
    matrix: Array
    flipped_share: float


def agree(name: str, reference: Array, predicted: Array, classes: int) -> ImageAgreement:
    """Compare two masks, each [H, W] uint8 class indices; safe to call from several threads."""
    matrix = confusion(reference, predicted, classes)
    return ImageAgreement(name, matrix, 1 - float(np.trace(matrix)) / reference.size)


class Agreement:
    """Sums how far an artifact's masks are the reference's masks, over a data set."""

    def __init__(self, classes: int) -> None:
        self._matrix = np.zeros((classes, classes), np.int64)
        self._worst: tuple[float, str] = (-1.0, "")
        self._images = 0
        self._changed = 0

    def add(self, image: ImageAgreement) -> None:
        """Count one image."""
        self._matrix += image.matrix
        self._images += 1
        self._changed += image.flipped_share > 0
        if image.flipped_share > self._worst[0]:
            self._worst = (image.flipped_share, image.name)

    def scores(self) -> AgreementScores | None:
        """The scores so far; None before the first image."""
        total = int(self._matrix.sum())
        if not total:
            return None
        flipped = total - int(np.trace(self._matrix))
        return AgreementScores(
            images=self._images,
            pixels=total,
            flipped_pixels=flipped,
            flipped_share=flipped / total,
            images_changed=self._changed,
            miou_to_reference=mean_iou(self._matrix),
            worst_image=self._worst[1],
            worst_flipped_share=self._worst[0],
            constant=int((self._matrix.sum(axis=1) > 0).sum()) == 1,
        )
