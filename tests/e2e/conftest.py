"""Running the real command on real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def refused(self, *words: str) -> None:
        """Exit code 1, nothing on stdout, two plain lines on stderr that hold these words, no traceback."""
        assert self.code == 1, self.out + self.err
        lines = [line for line in self.err.splitlines() if not line.startswith("note: ")]
        assert self.out == ""
        assert len(lines) == 2, self.err
        assert lines[0].startswith("edgeseg: ")
        assert lines[1].startswith("   hint: ")
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, self.err


@pytest.fixture
def edgeseg(tmp_path):
    """`edgeseg("export", file, "--target", "onnx")` in an empty folder."""

    def run(*words: object, timeout_s: float = 300, **variables: str) -> Finished:
        root = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root), "EDGESEG_CACHE_DIR": str(tmp_path / "cache"), **variables}
        done = subprocess.run(
            [sys.executable, "-m", "edgeseg", *map(str, words)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def weights_file(tmp_path, connectnet_weights):
    """Seeded random weights as a .npz checkpoint."""
    import numpy as np

    file = tmp_path / "weights.npz"
    np.savez(file, **connectnet_weights)
    return file
