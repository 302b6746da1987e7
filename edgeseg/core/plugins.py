"""Plug-ins are found by file name and loaded when used: a new backend, device or format is one new file.

``edgeseg/backends/openvino.py`` is the backend ``openvino``; ``edgeseg/architectures/pphumanseg_lite.py`` is the
architecture ``pphumanseg-lite``. Names starting with an underscore are not plug-ins.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from edgeseg.core.errors import MissingDependency, unknown


def names(package: str) -> list[str]:
    """The plug-ins of a package, by file name, sorted, without importing any of them."""
    found = importlib.import_module(package)
    return sorted(
        info.name.replace("_", "-") for info in pkgutil.iter_modules(found.__path__) if not info.name.startswith("_")
    )


def load(package: str, name: str) -> ModuleType:
    """Import one plug-in's module.

    Raises:
        EdgesegError: No plug-in has that name; the known ones are listed.
    """
    known = names(package)
    if name not in known:
        kind = package.rsplit(".", 1)[-1]
        singular = {"backends": "backend", "architectures": "architecture", "devices": "device"}.get(kind, kind)
        raise unknown(singular, name, known)
    return importlib.import_module(f"{package}.{name.replace('-', '_')}")


def require(module: str, *, extra: str, what: str) -> ModuleType:
    """Import a third-party package, or say which extra brings it.

    The import path and the command that mends its absence stand side by side in every call.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"{what} needs the package {module.split('.')[0]!r}: {error}",
            f"pip install 'edgeseg[{extra}]'" if extra else f"pip install {module.split('.')[0]}",
        ) from error
