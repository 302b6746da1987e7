"""The calibration contract: what is looked at before anything is computed from calibration pictures.

INT8 accuracy is lost in calibration far more often than in arithmetic. A network that wants RGB in [-1, 1] and is
calibrated on raw 0..255 BGR comes out with half of its mIoU, and no later step can tell why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import DataError
from edgeseg.core.spec import ModelSpec

FEWEST = 4
"""Fewer pictures are refused."""

ADVISED = 32
"""Fewer pictures are warned about."""

_THUMBNAIL = 16
_BLANK = 2.0
_DUPLICATE = 1.5
_SLACK = 1e-3
_SKEWED = 0.8


@dataclass(frozen=True)
class Finding:
    """Something wrong with a calibration set.

    Attributes:
        fatal: Whether calibrating on it would be a mistake, not only a risk.
        what: One sentence with names and figures.
        hint: What mends it.
    """

    fatal: bool
    what: str
    hint: str


@dataclass(frozen=True)
class Impression:
    """What is kept of one picture or tensor: enough to judge the set, little enough for any number of them.

    Attributes:
        name: The file.
        thumbnail: [16, 16] float32 luminance of 0..255, for tensors after undoing the normalisation.
        low: Smallest value of the network's input, per channel.
        high: Largest value, per channel.
        means: Mean of the network's input per channel.
        finite: Whether all values are numbers.
    """

    name: str
    thumbnail: Array
    low: tuple[float, ...]
    high: tuple[float, ...]
    means: tuple[float, ...]
    finite: bool


def impression(name: str, tensor: Array, spec: ModelSpec) -> Impression:
    """Look at one network input.

    Args:
        name: What to call it.
        tensor: `spec.input_shape`.
        spec: The network's spec.

    Raises:
        DataError: It has another shape or type than the network's input.
    """
    wanted = np.dtype(spec.input_dtype)
    if tensor.shape != spec.input_shape or tensor.dtype != wanted:
        shown = "x".join(map(str, tensor.shape))
        raise DataError(
            f"calibration tensor {name} is {tensor.dtype} {shown}, the network's input is {wanted} "
            f"{'x'.join(map(str, spec.input_shape))}",
            "prepare it as inference does, or give --calib pictures and let edgeseg prepare them",
        )
    planes = (tensor[0] if spec.input_layout == "nchw" else tensor[0].transpose(2, 0, 1)).astype(np.float32)
    finite = bool(np.isfinite(planes).all())
    if not finite:
        planes = np.nan_to_num(planes)
    if spec.input_dtype == "float32":
        mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
        grey = (255.0 * (planes * std + mean)).mean(axis=0)
    else:
        grey = planes.mean(axis=0)
    rows, columns = ((np.arange(_THUMBNAIL) * size) // _THUMBNAIL for size in grey.shape)
    sums = np.add.reduceat(np.add.reduceat(grey, np.unique(rows), axis=0), np.unique(columns), axis=1)
    areas = np.add.reduceat(np.add.reduceat(np.ones_like(grey), np.unique(rows), axis=0), np.unique(columns), axis=1)
    return Impression(
        name,
        np.asarray(sums / areas, np.float32),
        tuple(float(value) for value in planes.min(axis=(1, 2))),
        tuple(float(value) for value in planes.max(axis=(1, 2))),
        tuple(float(value) for value in planes.mean(axis=(1, 2))),
        finite,
    )


def possible_range(spec: ModelSpec) -> tuple[Array, Array]:
    """The smallest and largest value that the spec's pre-processing can produce, per channel."""
    if spec.input_dtype == "uint8":
        return np.zeros(3), np.full(3, 255.0)
    mean, std = np.asarray(spec.mean, np.float64), np.asarray(spec.std, np.float64)
    return -mean / std, (1.0 - mean) / std


def examine(seen: Sequence[Impression], spec: ModelSpec, *, prepared_elsewhere: bool = False) -> tuple[Finding, ...]:
    """Judge a calibration set.

    Args:
        seen: One impression a picture.
        spec: The network's spec.
        prepared_elsewhere: The tensors were not made by edgeseg's own pre-processing, so their colour order and
            normalisation are open questions.
    """
    findings = [*_count(seen), *_numbers(seen), *_range(seen, spec)]
    if prepared_elsewhere:
        findings += _colours(seen, spec)
    return (*findings, *_diversity(seen))


def enforce(findings: Iterable[Finding], *, anyway: bool = False) -> tuple[str, ...]:
    """Refuse a set with a fatal finding.

    Args:
        findings: What `examine` said.
        anyway: The user has been told and wants to go on.

    Returns:
        The findings as sentences, for the manifest and the user.

    Raises:
        DataError: There is a fatal finding, and `anyway` is not set.
    """
    found = tuple(findings)
    fatal = [finding for finding in found if finding.fatal]
    if fatal and not anyway:
        raise DataError("; ".join(finding.what for finding in fatal), fatal[0].hint)
    return tuple(finding.what for finding in found)


def _count(seen: Sequence[Impression]) -> list[Finding]:
    hint = f"give at least {ADVISED} pictures of the kind that the network will see: --calib DATA:64"
    if len(seen) < FEWEST:
        return [Finding(True, f"{len(seen)} calibration pictures are too few to know a range from", hint)]
    if len(seen) < ADVISED:
        return [Finding(False, f"{len(seen)} calibration pictures are few, {ADVISED} or more are advised", hint)]
    return []


def _numbers(seen: Sequence[Impression]) -> list[Finding]:
    broken = [one.name for one in seen if not one.finite]
    if not broken:
        return []
    return [Finding(True, f"{broken[0]} has values that are no numbers ({len(broken)} in all)", "leave it out")]


def _range(seen: Sequence[Impression], spec: ModelSpec) -> list[Finding]:
    """The values against what inference will feed."""
    if not seen:
        return []
    low, high = (np.array([getattr(one, name) for one in seen]) for name in ("low", "high"))
    floor, ceiling = possible_range(spec)
    slack = _SLACK * (ceiling - floor)
    wanted = f"inference feeds {_span(floor.min(), ceiling.max())} ({spec.color.upper()}, mean {_numbers_of(spec.mean)}, std {_numbers_of(spec.std)})"
    span = _span(low.min(), high.max())
    hint = "calibrate on pictures and let edgeseg prepare them: --calib DATA:64"
    if (low < floor - slack).any() or (high > ceiling + slack).any():
        looks = ""
        if low.min() >= 0 and 64 < high.max() <= 255.5:
            looks = ", which looks like raw pixels of 0..255 that were never normalised"
        return [Finding(True, f"the calibration tensors lie in {span}, but {wanted}{looks}", hint)]
    # Never leaving one half of what is possible is no accident of the pictures: black is in every photo.
    if (floor < 0).all() and low.min() >= 0:
        looks = ", which looks like pixels divided by 255 without mean and std" if high.max() <= 1.001 else ""
        return [Finding(True, f"no calibration tensor has a value below 0 ({span}), but {wanted}{looks}", hint)]
    if (high - low).max() < 0.1 * float((ceiling - floor).max()):
        return [Finding(True, f"the calibration tensors use only {span} of what is possible: {wanted}", hint)]
    return []


def _colours(seen: Sequence[Impression], spec: ModelSpec) -> list[Finding]:
    """Photos of people and rooms are warmer than grey: red above blue in nearly all sets, whatever the single picture."""
    if len(seen) < FEWEST:
        return []
    means = np.array([one.means for one in seen])
    if spec.input_dtype == "float32":
        means = means * np.asarray(spec.std) + np.asarray(spec.mean)
    red, blue = (means[:, 0], means[:, 2]) if spec.color == "rgb" else (means[:, 2], means[:, 0])
    cold = float((blue > red).mean())
    if cold < _SKEWED:
        return []
    other = "BGR" if spec.color == "rgb" else "RGB"
    return [
        Finding(
            True,
            f"in {100 * cold:.0f} % of the calibration tensors the channel that should be red is darker than the one "
            f"that should be blue: they look like {other}, the network wants {spec.color.upper()}",
            "swap the channels, or give --calib pictures and let edgeseg prepare them; "
            "--calib-anyway if the pictures really are that cold",
        )
    ]


def _diversity(seen: Sequence[Impression]) -> list[Finding]:
    findings = []
    blank = [one for one in seen if float(one.thumbnail.std()) < _BLANK]
    if blank:
        findings.append(
            Finding(
                2 * len(blank) > len(seen),
                f"{len(blank)} of {len(seen)} calibration pictures are blank or nearly so, e.g. {blank[0].name}",
                "leave them out: they teach no range",
            )
        )
    empty = {id(one) for one in blank}
    pictures = [one for one in seen if id(one) not in empty]
    twins = []
    for index, one in enumerate(pictures):
        for other in pictures[:index]:
            if float(np.abs(one.thumbnail - other.thumbnail).mean()) < _DUPLICATE:
                twins.append((one.name, other.name))
                break
    if twins:
        findings.append(
            Finding(
                2 * len(twins) > len(seen),
                f"{len(twins)} of {len(seen)} calibration pictures show what another one shows, "
                f"e.g. {twins[0][0]} and {twins[0][1]}",
                "take pictures of different scenes",
            )
        )
    return findings


def _span(low: float, high: float) -> str:
    return f"[{float(low):.4g}, {float(high):.4g}]"


def _numbers_of(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
