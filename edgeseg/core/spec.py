"""ModelSpec: everything that has to be the same wherever a network runs, defined once.

It travels inside every artifact and manifest. Reference run, verify, the worker on a board and the page on a phone
read the same spec, because pre- or post-processing that differs somewhere is the commonest cause of changed masks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Optional

from edgeseg.core.errors import EdgesegError

SPEC_KEY = "edgeseg.spec"
"""Name under which the spec's JSON stands in an ONNX file's `metadata_props` (and in other formats' own places)."""


@dataclass(frozen=True)
class State:
    """A recurrent state: an extra input that is fed from an extra output of the run before (zeros at the start)."""

    input_name: str
    output_name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """How a tensor of real numbers is held in int8: ``real = scale * (stored - zero)``."""

    scale: float
    zero: int


@dataclass(frozen=True)
class ModelSpec:
    """How an image becomes the network's input, and its output a mask.

    Pre-processing: the image (uint8, any size) is put in `color` order, resized to `width` x `height` without keeping
    the aspect (bilinear, half-pixel centres, no antialias), divided by 255, then ``(x - mean) / std`` per channel, laid
    out as `input_layout` with a batch of one. With `input_dtype` ``uint8`` the resized image goes in as it is.

    Post-processing: scores are resized to the image's own size (bilinear, half-pixel centres), then argmax over the
    classes (one channel: foreground where probability > 0.5 or logit > 0); `labels` are resized to the nearest. With
    `output_stored` the scores come as int8.
    """

    name: str
    width: int
    height: int
    input_name: str
    output_name: str
    classes: tuple[str, ...] = ("background", "person")
    color: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    input_dtype: Literal["float32", "uint8"] = "float32"
    input_layout: Literal["nchw", "nhwc"] = "nchw"
    output_layout: Literal["nchw", "nhwc", "nhw"] = "nchw"
    output_kind: Literal["logits", "probabilities", "labels"] = "logits"
    output_channels: int = 2
    states: tuple[State, ...] = ()
    input_stored: Optional[Stored] = None
    output_stored: Optional[Stored] = None
    schema_version: int = 1

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise EdgesegError(f"input size {self.width}x{self.height} is not a size", "--input-size WIDTHxHEIGHT")
        if any(not value > 0 for value in self.std):
            raise EdgesegError(f"std {self.std} has a value that is not above 0", "--std R,G,B")

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input tensor, in `input_layout`, batch 1."""
        if self.input_layout == "nchw":
            return (1, 3, self.height, self.width)
        return (1, self.height, self.width, 3)

    def with_layout(self, layout: Literal["nchw", "nhwc"]) -> ModelSpec:
        """The same network with its input and output tensors laid out otherwise (labels have no channel axis)."""
        return replace(
            self, input_layout=layout, output_layout=self.output_layout if self.output_layout == "nhw" else layout
        )
