"""Scores of a network under training, through the very pre- and post-processing that deployed artifacts have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from edgeseg.core.arrays import Array
from edgeseg.core.backend import Session
from edgeseg.core.spec import ModelSpec
from edgeseg.data.dataset import Dataset
from edgeseg.data.predictor import Predictor
from edgeseg.metrics.quality import Quality, QualityScores, measure


class TorchSession(Session):
    """A torch module as a `Session`."""

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        self._network = network
        self._spec = spec

    def feed(self, feeds: Mapping[str, Array]) -> None:
        """One ``[1, 3, H, W]`` float32 input."""
        self._image = torch.from_numpy(feeds[self._spec.input_name]).contiguous(memory_format=torch.channels_last)

    def execute(self) -> None:
        """Infer once."""
        with torch.inference_mode():
            self._logits = self._network(self._image).contiguous()

    def fetch(self) -> dict[str, Array]:
        """``[1, C, H, W]`` float32 logits."""
        return {self._spec.output_name: self._logits.numpy()}

    def close(self) -> None:
        """Nothing is held."""


def spec_of(size: tuple[int, int], name: str = "connectnet") -> ModelSpec:
    """The spec of a ConnectNet for a (width, height)."""
    return ModelSpec(name=name, width=size[0], height=size[1], input_name="image", output_name="logits")


def validate(network: nn.Module, datasets: Sequence[Dataset], size: tuple[int, int]) -> QualityScores | None:
    """Score a network on data sets at the pictures' own size.

    Args:
        network: `ConnectNet`; left in evaluation mode.
        datasets: Data sets with masks; counted as one.
        size: (width, height) of the network's input.

    Returns:
        The scores, or None where no pixel counts.
    """
    network.eval()
    spec = spec_of(size)
    predictor = Predictor(spec, TorchSession(network, spec))
    quality = Quality(len(spec.classes))
    for dataset in datasets:
        for sample in dataset.stream():
            assert sample.mask is not None
            quality.add(measure(sample.name, sample.mask, predictor.mask(sample.image), len(spec.classes)))
    return quality.scores()
