"""An installation without extras: what it can do works, what it cannot says which command mends it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_wheel_without_extras(tmp_path, connectnet_weights):
    python = tmp_path / "bare/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "bare"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", ROOT], check=True)
    np.savez(tmp_path / "weights.npz", **connectnet_weights)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def edgeseg(*words):
        command = [tmp_path / "bare/bin/edgeseg", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = edgeseg("export", "weights.npz", "--target", "onnx", "--input-size", "96x64")
    assert done.returncode == 0, done.stderr
    done = edgeseg("export", "weights.npz", "--target", "openvino", "--input-size", "96x64")
    assert done.returncode == 1
    assert "pip install 'edgeseg[openvino]'" in done.stderr
    assert "Traceback" not in done.stderr
    done = edgeseg("doctor")
    assert done.returncode == 0
    assert "pip install 'edgeseg[tflite]'" in done.stdout
    done = edgeseg("export", "--target", "onnx")
    assert done.returncode == 0, done.stderr  # the bundled checkpoint is in the wheel
