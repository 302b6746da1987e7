"""The runtime that does nothing: the template of a backend, and the floor of every measuring harness.

Its masks are empty, so no gate lets its artifacts pass: a harness that calls them good is broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.backend import PRECISIONS, Conversion, Executed, Session, Work
from edgeseg.core.spec import ModelSpec


class NullSession(Session):
    """Answers every run with the same zeros."""

    def __init__(self, spec: ModelSpec) -> None:
        plane = (spec.height, spec.width)
        shapes = {
            "nchw": (1, spec.output_channels, *plane),
            "nhwc": (1, *plane, spec.output_channels),
            "nhw": (1, *plane),
        }
        self._outputs = {spec.output_name: np.zeros(shapes[spec.output_layout], np.float32)}
        self._outputs.update({state.output_name: np.zeros(state.shape, np.float32) for state in spec.states})

    def feed(self, feeds: Mapping[str, Array]) -> None:
        """Nothing is read."""

    def execute(self) -> None:
        """Nothing is done."""

    def fetch(self) -> dict[str, Array]:
        """The zeros."""
        return self._outputs

    def close(self) -> None:
        """Nothing is held."""


class NullBackend:
    """See the module."""

    name = "null"
    precisions = PRECISIONS
    package = "numpy"
    extra = ""

    def convert(self, model: Any, spec: ModelSpec, precision: str, out: Path) -> Conversion:
        """Write a file that says what it is."""
        (out / "model.null").write_text("This model does nothing.\n")
        return Conversion(files=("model.null",), spec=spec)

    def load(self, path: Path, spec: ModelSpec, *, threads: int, options: Mapping[str, str]) -> NullSession:
        """Load nothing."""
        return NullSession(spec)

    def executed(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> Executed:
        """Nothing is multiplied."""
        return Executed(0, 0)

    def work(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> list[Work]:
        """Nothing is done."""
        return []


BACKEND = NullBackend()
