"""What travels to a device has to be understood by Python 3.9."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "edgeseg"
PATTERNS = (
    "__init__.py",
    "core/*.py",
    "backends/*.py",
    "backends/tflite/__init__.py",
    "backends/tflite/runtime.py",
    "data/__init__.py",
    "data/preprocess.py",
    "data/predictor.py",
    "worker/*.py",
)
TRAVELS = sorted(path for pattern in PATTERNS for path in PACKAGE.glob(pattern))


@pytest.mark.parametrize("path", TRAVELS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_syntax(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    annotated = any(isinstance(node, ast.FunctionDef | ast.AnnAssign) for node in ast.walk(tree))
    assert future or not annotated, "annotations like `X | None` need `from __future__ import annotations` there"
