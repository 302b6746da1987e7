"""A recipe: everything that `export` has to be told about one model, in a TOML file that stands under git.

    edgeseg export exports/pphumanseg-lite.toml

Flags on the command line win over the recipe. Paths in it are relative to the recipe's folder.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgeseg.core import records
from edgeseg.core.errors import EdgesegError


@dataclass(frozen=True)
class Recipe:
    """The fields of a recipe file; None or empty = not said. They mean what the flags of the same name mean."""

    checkpoint: str = ""
    name: str = ""
    arch: str = ""
    model: str = ""
    input_size: tuple[int, ...] = ()
    head: str = ""
    output: str = ""
    color: Literal["rgb", "bgr"] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    precision: str = ""
    data: str = ""
    mask_values: str = ""


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        EdgesegError: It is missing, no TOML, or has a field that no recipe has.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EdgesegError(f"the recipe {path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise EdgesegError(f"the recipe {path} is not TOML: {error}") from error
    recipe = records.from_dict(Recipe, document, where=str(path))
    for field, count in (("input_size", 2), ("mean", 3), ("std", 3)):
        if len(getattr(recipe, field)) not in (0, count):
            raise EdgesegError(f"{path}: {field} has {len(getattr(recipe, field))} values, expected {count}")

    def beside(text: str) -> str:
        return str(path.parent / text) if text and not text.startswith("sample") else text

    return replace(recipe, checkpoint=beside(recipe.checkpoint), data=beside(recipe.data))
