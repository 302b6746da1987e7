"""A quantisation recipe: everything that was chosen, as a file that can be read, edited and replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgeseg.core import atomic, records
from edgeseg.core.errors import EdgesegError

FILE = "recipe.json"


@dataclass(frozen=True)
class Range:
    """The scale of some tensors: ``real = step * (stored - zero)``, `stored` in 0..255."""

    tensor: str
    step: float
    zero: int
    method: str


@dataclass(frozen=True)
class Ranked:
    """A line of the ranking: the error of the mask with this part of the network in float."""

    part: str
    error: float
    mac_share: float
    layers: tuple[str, ...]


@dataclass(frozen=True)
class QuantizationRecipe:
    """What was chosen for a network.

    Attributes:
        model: Its name.
        ranges: One for each scale; named after the first tensor that has it.
        floating: Layers that stay in float.
        ranking: Parts by what they gain in float, most first; empty if nobody asked.
        means: Layer to the mean of its input per channel, from which biases are corrected.
        error: Share of pixels that change their class on the trial pictures, all in int8.
        factors: Layer to what each channel that it makes is multiplied by, and divided by where it is read, in the
            weights of the float network; layers that are not equalised are left out.
    """

    model: str
    ranges: tuple[Range, ...]
    floating: tuple[str, ...] = ()
    ranking: tuple[Ranked, ...] = ()
    means: dict[str, tuple[float, ...]] = field(default_factory=dict)
    error: float = 0.0
    factors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    schema_version: int = 1


def write(path: Path, recipe: QuantizationRecipe) -> None:
    """Write a recipe."""
    atomic.write_text(path, records.to_json(recipe, indent=2) + "\n")


def read(path: Path) -> QuantizationRecipe:
    """Read a recipe.

    Raises:
        EdgesegError: It is missing or no recipe.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise EdgesegError(
            f"there is no recipe at {path}", f"edgeseg quantize writes {FILE} beside the model"
        ) from error
    return records.from_json(QuantizationRecipe, text, where=str(path))
