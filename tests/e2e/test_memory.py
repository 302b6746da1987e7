"""Memory stays flat: a data set ten times as large takes no more of it."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from edgeseg.data.images import write_jpeg, write_png
from edgeseg.data.sample import sample

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_verify_of_many_pictures(edgeseg, weights_file, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for index in range(20):
        image, mask = sample(index)
        (tmp_path / f"images/{index}.jpg").write_bytes(write_jpeg(image))
        (tmp_path / f"masks/{index}.png").write_bytes(write_png(mask))
    assert edgeseg("export", weights_file, "--target", "onnx", "--input-size", "64x48").code == 0

    def peak_bytes(count: int) -> int:
        lines = [f"images/{index % 20}.jpg masks/{index % 20}.png" for index in range(count)]
        (tmp_path / "list.txt").write_text("\n".join(lines))
        script = (
            "import resource, sys; from edgeseg.cli import main\n"
            "try:\n    main(sys.argv[1:])\n"
            "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, "verify", "exports/pphumanseg-lite/onnx-fp32", "--data", "list.txt", "--json"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stderr.splitlines()[-1]) * 1024

    assert resource.RUSAGE_SELF == 0
    small, large = peak_bytes(300), peak_bytes(3000)
    # One decoded picture is 0.7 MB: keeping even a tenth of the 2,700 more would show as 190 MB.
    assert large - small < 40e6, (small, large)
