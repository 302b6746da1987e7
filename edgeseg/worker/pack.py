"""The worker as one file: a zipapp of exactly the modules that it needs. Runs on the host."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from edgeseg.core import atomic

PACKAGE = Path(__file__).parent.parent

TRAVELS: tuple[str, ...] = (
    "__init__.py",
    "core/*.py",
    "backends/*.py",
    "backends/*/__init__.py",
    "backends/*/runtime.py",
    "data/__init__.py",
    "data/preprocess.py",
    "data/predictor.py",
    "worker/*.py",
)
"""What goes along, as patterns below the package's folder. A backend that is a folder keeps what it needs to load and
run in `__init__` and `runtime`."""

_MAIN = "from edgeseg.worker.main import main\n\nmain()\n"


def modules() -> list[Path]:
    """The files that travel, sorted."""
    return sorted({path for pattern in TRAVELS for path in PACKAGE.glob(pattern)})


def pack(path: Path) -> Path:
    """Write the zipapp, atomically; the same modules make the same bytes.

    Args:
        path: The file, e.g. ``worker.pyz``.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _MAIN.encode())
        for module in modules():
            _add(archive, f"edgeseg/{module.relative_to(PACKAGE).as_posix()}", module.read_bytes())
    atomic.write_bytes(path, content.getvalue())
    return path


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
