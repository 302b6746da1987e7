"""Lowerings by family; importing a module registers what it lowers."""

from __future__ import annotations

import importlib
import pkgutil


def register_all() -> None:
    """Import every module of this folder."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
