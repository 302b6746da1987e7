"""Which network: the flags of `export` and `quantize`, and the recipe that may stand in their place."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.cli import _flags

if TYPE_CHECKING:
    from edgeseg.flows.model import ModelRequest
    from edgeseg.flows.recipe import Recipe


def add(parser: argparse.ArgumentParser) -> None:
    """The network's size, architecture and pre-processing, and where its artifacts go."""
    add = parser.add_argument
    add("--input-size", type=_flags.size, metavar="WxH", help="the network's input, width x height, e.g. 398x224")
    add(
        "--input",
        choices=("float", "uint8"),
        default="float",
        help="what the artifact is fed: the prepared picture, or an RGB frame of bytes, height x width x 3, that is "
        "prepared inside the network (default: float)",
    )
    add("--arch", metavar="NAME", help="architecture of a checkpoint that holds weights only (default: recognised)")
    add(
        "--model",
        metavar="PACKAGE.MODULE:FACTORY",
        help="Python function that builds the network of a PyTorch state dict",
    )
    add(
        "--head",
        metavar="NAME",
        help="logits, softmax or argmax, for architectures that edgeseg builds (default: logits)",
    )
    add("--output", metavar="NAME", help="which output of an ONNX file is the mask, where it has several")
    add("--color", choices=("rgb", "bgr"), help="colour order of the network's input")
    add("--mean", type=_flags.three, metavar="R,G,B", help="mean of the normalisation (x / 255 - mean) / std")
    add("--std", type=_flags.three, metavar="R,G,B", help="std of the normalisation")
    add("--classes", type=_flags.names, metavar="NAMES", help="class names, comma-separated, background first")
    add("--name", metavar="NAME", help="name of the model's folder (default: the architecture's or the file's)")
    add("--out", type=Path, default=Path("exports"), metavar="DIR", help="where artifacts go (default: exports)")


@dataclass(frozen=True)
class Said:
    """What the user said: the flags, then the recipe."""

    arguments: argparse.Namespace
    recipe: Recipe
    checkpoint: str

    def __call__(self, flag: str, default: Any = None) -> Any:
        """The value of a flag, else of the recipe's field of that name, else the default."""
        given = getattr(self.arguments, flag)
        return given if given is not None else (getattr(self.recipe, flag) or default)


def said(arguments: argparse.Namespace) -> Said:
    """Flags and recipe of a command whose CHECKPOINT may be a recipe."""
    from edgeseg.flows.recipe import Recipe, read_recipe

    checkpoint = arguments.checkpoint or ""
    if not checkpoint.endswith(".toml"):
        return Said(arguments, Recipe(), checkpoint)
    recipe = read_recipe(Path(checkpoint))
    return Said(arguments, recipe, recipe.checkpoint)


def request(given: Said) -> ModelRequest:
    """The network that is meant; the bundled one if none is named."""
    from edgeseg.assets import bundled
    from edgeseg.flows.model import ModelRequest
    from edgeseg.graph.segmentation import Told

    return ModelRequest(
        checkpoint=Path(given.checkpoint) if given.checkpoint else bundled(),
        arch=given("arch", ""),
        factory=given("model", ""),
        size=given("input_size"),
        head=given("head", ""),
        name=given("name", ""),
        told=Told(
            color=given("color"),
            mean=given("mean"),
            std=given("std"),
            classes=given("classes"),
            output=given("output"),
        ),
    )
