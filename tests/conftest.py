"""What every test may ask for: the shared real data where it exists, and packages that may not be installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REQUIRED = {name for name in os.environ.get("EDGESEG_REQUIRE", "").split(",") if name}

MODULES = {"tflite": "ai_edge_litert", "onnx": "onnxruntime", "browser": "aiohttp"}
"""Import names of what EDGESEG_REQUIRE calls otherwise."""


def pytest_configure() -> None:
    """Refuse to start where a required package is missing: whole modules that skip without it would go unnoticed."""
    for name in sorted(REQUIRED - {"all", "shared", "paddle", "pi_emulated", "android_emulated", "adb"}):
        if importlib.util.find_spec(MODULES.get(name, name)) is None:
            pytest.exit(f"EDGESEG_REQUIRE names {name!r}, which is not installed", returncode=1)


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


@pytest.fixture(scope="session")
def connectnet_weights():
    """Seeded random weights of `pphumanseg-lite` whose masks have both classes; not trained on anything."""
    import numpy as np

    from edgeseg.architectures import pphumanseg_lite

    random = np.random.default_rng(7)
    weights = {}
    for name, shape in pphumanseg_lite.parameters().items():
        if name.endswith("_conv.weight"):
            value = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith(("_variance", "_batch_norm.weight")):
            value = random.uniform(0.8, 1.2, shape)
        else:
            value = random.normal(0, 0.1, shape)
        weights[name] = value.astype(np.float32)
    return weights


@pytest.fixture
def need_paddle():
    """Call it: skip unless the separate environment of paddle2onnx has been made."""

    def check() -> None:
        from edgeseg.checkpoints import paddle_inference
        from edgeseg.core import environments

        if not environments.is_installed(paddle_inference.ENVIRONMENT):
            command = paddle_inference.ENVIRONMENT.install_command
            skip("paddle", f"the paddle environment is not installed: {command}")

    return check
