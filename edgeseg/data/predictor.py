"""A spec and a session: image in, mask out. Runs on the host and, inside the worker, on a device."""

from __future__ import annotations

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.backend import Session
from edgeseg.core.spec import ModelSpec
from edgeseg.data.preprocess import to_input, to_mask


class Predictor:
    """One loaded model with everything around it.

    Args:
        spec: The spec of the model that `session` runs.
        session: The loaded model; closed by `close`.
    """

    def __init__(self, spec: ModelSpec, session: Session) -> None:
        self.spec = spec
        self._session = session
        self._states = {state.input_name: np.zeros(state.shape, np.float32) for state in spec.states}

    def prepare(self, image: Array) -> Array:
        """[H, W, 3] uint8 RGB → the network's input; safe to call from several threads."""
        return to_input(image, self.spec)

    def takes_the_input_of(self, other: Predictor) -> bool:
        """Whether `prepare` makes the same tensor as that of another predictor, so that it need not be made twice."""
        fields = ("width", "height", "color", "mean", "std", "input_dtype", "input_layout", "input_stored")
        return all(getattr(self.spec, field) == getattr(other.spec, field) for field in fields)

    def infer(self, tensor: Array) -> Array:
        """The network's output for one input; recurrent states start at zero, pictures do not know each other."""
        return self._session.run({self.spec.input_name: tensor, **self._states})[self.spec.output_name]

    def feed(self, tensor: Array) -> None:
        """First step of `infer`, see `edgeseg.core.backend.Session.feed`."""
        self._session.feed({self.spec.input_name: tensor, **self._states})

    def execute(self) -> None:
        """Second step of `infer`: the network alone."""
        self._session.execute()

    def fetch(self) -> Array:
        """Third step of `infer`: the network's output."""
        return self._session.fetch()[self.spec.output_name]

    def finish(self, output: Array, height: int, width: int) -> Array:
        """The network's output → [height, width] uint8 class indices; safe to call from several threads."""
        return to_mask(output, self.spec, height, width)

    def mask(self, image: Array) -> Array:
        """All three steps."""
        return self.finish(self.infer(self.prepare(image)), *image.shape[:2])

    def close(self) -> None:
        """Give back what the runtime holds."""
        self._session.close()
