"""What every test may ask for: the shared real data where it exists, and packages that may not be installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REQUIRED = {name for name in os.environ.get("EDGESEG_REQUIRE", "").split(",") if name}


def skip(what: str, reason: str) -> None:
    """Skip the test, or fail it where EDGESEG_REQUIRE names `what`."""
    if what in REQUIRED or "all" in REQUIRED:
        pytest.fail(f"EDGESEG_REQUIRE names {what!r}: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def need():
    """`need("openvino", "pip install 'edgeseg[openvino]'")`: skip with the command unless the package is there."""

    def check(package: str, command: str = "", *, what: str = "") -> None:
        if importlib.util.find_spec(package) is None:
            skip(what or package, f"{package} is not installed: {command or 'pip install ' + package}")

    return check


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real checkpoints and photos that lies beside the repository on the maintainers' machines."""
    folder = Path(os.environ.get("EDGESEG_SHARED", ROOT.parent / "shared"))
    if not (folder / "checkpoints").is_dir():
        skip("shared", "the real checkpoints and photos are not here (EDGESEG_SHARED names their folder)")
    return folder
