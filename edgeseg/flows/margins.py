"""The margin between the two first classes where it is smallest: there an error of the scores moves the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.spec import ModelSpec
from edgeseg.data.preprocess import scores

NEAREST = 0.05
"""Share of the pixels that are nearest to a change of class."""


@dataclass(frozen=True)
class _Wanted:
    """The undecided pixels of a picture: first and second class of each, the pixel's number, and the margin."""

    first: Array
    second: Array
    pixels: Array
    margin: Array


class Margins:
    """What the float network's margins were, and how far others are from them.

    Flipped pixels are few and come by chance on few pictures; the error of the scores where they could flip is a smooth
    measure of the same thing.

    Args:
        expected: Outputs of the float network.
        spec: Its spec; its output is no labels.
    """

    def __init__(self, expected: Sequence[Array], spec: ModelSpec) -> None:
        self._spec = spec
        self._wanted = [self._undecided(self._flat(output)) for output in expected]

    def error(self, outputs: Sequence[Array]) -> float:
        """Mean error of the margins of all pictures' outputs, in order."""
        errors = [float(np.abs(one).mean()) if one.size else 0.0 for one in self._errors(outputs)]
        return float(np.mean(errors))

    def shift(self, outputs: Sequence[Array]) -> Array:
        """What to add to each class's scores so that no class gains pixels from another on the whole.

        An error of one sign in all undecided pixels makes the masks of a class larger or smaller. The shifts ``d`` are those
        of least squares of ``error + d[first] - d[second]`` over the undecided pixels.

        Returns:
            [C]; the mean over the classes is 0, but for networks of a single plane: [1], in which the other class is 0.
        """
        classes = max(2, self._spec.output_channels)
        normal, right = np.zeros((classes, classes)), np.zeros(classes)
        for error, wanted in zip(self._errors(outputs), self._wanted, strict=True):
            for a, b in ((wanted.first, wanted.second), (wanted.second, wanted.first)):
                np.add.at(normal, (a, a), 1.0)
                np.add.at(normal, (a, b), -1.0)
            np.add.at(right, wanted.first, -error)
            np.add.at(right, wanted.second, error)
        found = np.linalg.lstsq(normal, right, rcond=1e-9)[0]
        return np.asarray(found[1:] - found[0] if self._spec.output_channels == 1 else found - found.mean())

    def _errors(self, outputs: Sequence[Array]) -> list[Array]:
        errors = []
        for output, wanted in zip(outputs, self._wanted, strict=True):
            planes = self._flat(output)
            now = planes[wanted.first, wanted.pixels] - planes[wanted.second, wanted.pixels]
            errors.append(now - wanted.margin)
        return errors

    def _flat(self, output: Array) -> Array:
        """[C, pixels]; one plane is completed by a second one of zeros, the class that it is compared with."""
        planes = scores(output, self._spec)
        planes = planes.reshape(len(planes), -1)
        return np.concatenate([np.zeros_like(planes), planes]) if len(planes) == 1 else planes

    def _undecided(self, planes: Array) -> _Wanted:
        first, second = np.argsort(planes, axis=0, kind="stable")[:-3:-1]
        pixels = np.arange(planes.shape[1])
        margin = planes[first, pixels] - planes[second, pixels]
        undecided = np.flatnonzero(margin > 0)  # behind a ReLU, sure pixels may have two scores of exactly 0
        near = undecided[np.argsort(margin[undecided], kind="stable")[: max(1, int(NEAREST * margin.size))]]
        return _Wanted(first[near], second[near], near, margin[near])
