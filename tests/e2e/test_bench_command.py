import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
NAME = "pphumanseg-lite/onnx-fp32"
FOLDER = f"exports/{NAME}"


@pytest.fixture(scope="module")
def once(tmp_path_factory, connectnet_weights):
    """The folder exports/ with an artifact of a small input size, made once for all tests here."""
    folder = tmp_path_factory.mktemp("exported")
    np.savez(folder / "weights.npz", **connectnet_weights)
    words = ["export", "weights.npz", "--target", "onnx", "--input-size", "96x64"]
    subprocess.run(
        [sys.executable, "-m", "edgeseg", *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    return folder / "exports"


@pytest.fixture
def exported(once, tmp_path):
    """The artifact below exports/ of the test's own folder."""
    shutil.copytree(once, tmp_path / "exports")
    return tmp_path / FOLDER


def results_file(folder):
    (found,) = folder.glob("bench/results/*/*.jsonl")
    return found


def test_from_artifacts_to_a_choice(edgeseg, exported, tmp_path):
    done = edgeseg("bench", "--budget", "3", "--data", "sample:4", "--threads", "1,2", "--json")
    assert done.code == 0, done.err
    (document,) = done.json["benches"]
    assert document["synthetic"] is True
    rows = {row["variant"]: row for row in document["rows"]}
    assert set(rows) == {f"{NAME}@1", f"{NAME}@2"}
    one, two = rows.values()
    assert one["verdict"] == "baseline"
    assert one["median_ms"] > 0
    assert one["flipped_share"] <= 0.001, "the device's masks are the reference's masks"
    assert one["miou"] == two["miou"]
    assert one["start_ms"] > one["first_ms"] > 0
    assert one["peak_bytes"] > 20e6

    done = edgeseg("pick", "--max-ms", "10000", "--threads", "1")
    assert done.code == 0
    assert f"✓ {NAME}" in done.out
    done = edgeseg("pick", "--max-ms", "0.001")
    assert done.code == 3
    assert "too slow" in done.out

    done = edgeseg("report", "--csv", "all.csv", "--markdown", "all.md")
    assert done.code == 0, done.err
    assert (tmp_path / "all.csv").read_text().count(NAME) >= 2
    assert "synthetic pictures" in (tmp_path / "all.md").read_text()


def test_compare_ends_with_3_on_a_regression(edgeseg, exported, tmp_path):
    assert edgeseg("bench", "--budget", "5", "--data", "none").code == 0
    before = results_file(tmp_path)
    after = tmp_path / "after.jsonl"
    lines = []
    for line in before.read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "round":
            record["slice"]["infer_ns"] = [2 * value for value in record["slice"]["infer_ns"]]
        lines.append(json.dumps(record))
    after.write_text("\n".join(lines) + "\n")
    done = edgeseg("compare", before, after)
    assert done.code == 3, done.out
    assert "slower" in done.out
    assert edgeseg("compare", after, before).code == 0
    same = edgeseg("compare", before, before, "--json")
    assert same.code == 0
    assert same.json["changes"][0]["verdict"] == "cannot tell"


def test_an_artifact_that_cannot_be_loaded_is_a_failed_row(edgeseg, exported, tmp_path):
    """The hashes are right, the bytes are no model: the runtime refuses, the other row is measured."""
    from edgeseg.core import manifest, records

    broken = tmp_path / "exports/pphumanseg-lite/onnx-fp16"
    broken.mkdir()
    (broken / "model.onnx").write_bytes(b"no model")
    document = records.to_dict(manifest.read(exported).manifest)
    document["precision"] = "fp16"
    document["files"] = [records.to_dict(manifest.entry(broken / "model.onnx"))]
    (broken / "manifest.json").write_text(json.dumps(document))
    done = edgeseg("bench", "--budget", "1", "--data", "sample:2")
    assert done.code == 3
    assert "✗ pphumanseg-lite/onnx-fp16@1" in done.out
    assert "ONNX Runtime cannot load the model" in done.err
    assert f"{NAME}@1" in done.out


def test_what_is_refused(edgeseg, exported, tmp_path):
    edgeseg("bench", "exports/nothing").refused("is not an artifact", "edgeseg export")
    edgeseg("bench", "--device", "toaster").refused("unknown device 'toaster'", "cpu")
    edgeseg("bench", "--suite", "none.toml").refused("suite none.toml does not exist", "bench/suites")
    edgeseg("report").refused("there are no results in bench/results", "edgeseg bench")
    assert edgeseg("bench", "--threads", "two").code == 2
    assert edgeseg("bench", "--sustain", "soon").code == 2
    (exported / "model.onnx").write_bytes(b"swapped")
    edgeseg("bench").refused("is not the file that its manifest describes", "export the artifact again")


def test_a_suite_and_a_flag_over_it(edgeseg, exported, tmp_path):
    (tmp_path / "s.toml").write_text(f'artifacts = ["{FOLDER}"]\nthreads = [2]\nbudget = 500\ndata = "none"\n')
    done = edgeseg("bench", "--suite", "s.toml", "--budget", "1", "--json")
    assert done.code == 0, done.err
    assert [row["threads"] for row in done.json["benches"][0]["rows"]] == [2]
    assert done.json["benches"][0]["seconds"] < 60
    (tmp_path / "s.toml").write_text("artefacts = []\n")
    edgeseg("bench", "--suite", "s.toml").refused("unknown field 'artefacts'", "artifacts")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the workers in /proc")
def test_ctrl_c_keeps_what_was_measured(exported, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-m", "edgeseg", "bench", "--budget", "300", "--data", "none"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = list(tmp_path.glob("bench/results/*/*.jsonl"))
        if found and found[0].read_text().count('"kind": "round"') >= 5:
            break
        time.sleep(0.2)
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert f"{NAME}@1" in out
    assert "--resume goes on" in err
    assert "Traceback" not in err
    assert '"interrupted"' in results_file(tmp_path).read_text()
    assert workers
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()], "no worker is left"


def test_self_test_prints_what_it_saw(edgeseg, exported):
    done = edgeseg("bench", FOLDER, "--self-test", "1", "--budget", "2")
    assert "against itself" in done.out
    assert "slowed by 20 %" in done.out
    assert "cried wolf in" in done.err


def test_a_forecast_says_so_and_is_kept_nowhere(edgeseg, exported, tmp_path):
    done = edgeseg("bench", "--device", "pi", "--forecast", "--threads", "1,4")
    assert done.code == 0, done.err
    assert "Forecast, not measured" in done.out
    assert done.out.count(f"~ {NAME}@") == 6
    assert "public figures" in done.out
    assert "Cortex-A72 at 1.8 GHz" in done.err
    assert not (tmp_path / "bench").exists()

    done = edgeseg("bench", FOLDER, "--device", "pi", "--forecast", "--json")
    document = done.json
    assert "benches" not in document
    assert [one["board"] for one in document["forecasts"]] == ["Raspberry Pi 3", "Raspberry Pi 4", "Raspberry Pi 5"]
    for one in document["forecasts"]:
        assert one["kind"] == "forecast"
        assert one["forecast_low_ms"] < one["forecast_ms"] < one["forecast_high_ms"]
        assert not [key for key in one if key.startswith(("median", "p90", "latency"))], "no name of a measured figure"
    assert edgeseg("pick", "--device", "pi", "--max-ms", "100000").code == 1, "there is nothing to choose from"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cpu"], "forecasts are made for Raspberry Pi 3, 4 and 5, not for cpu"),
        (["--device", "pi,ssh://pi@other"], "not for ssh://pi@other"),
        ([], "not for cpu"),
        (["--device", "pi", "--self-test", "3"], "measures nothing that --self-test could test"),
    ],
)
def test_a_forecast_of_what_nobody_can_forecast(edgeseg, exported, words, message):
    done = edgeseg("bench", "--forecast", *words)
    assert done.code == 1
    assert message in done.err
    assert "hint" in done.err


def test_boards_that_do_not_answer_are_named_and_the_others_are_measured(edgeseg, exported):
    if shutil.which("ssh") is None:
        pytest.skip("there is no ssh: apt install openssh-client")
    boards = ["ssh://a@127.0.0.1:1", "ssh://b@127.0.0.1:2"]
    words = ["bench", "--data", "none", "--budget", "2", "--json", "--device", ",".join(["cpu", *boards])]
    done = edgeseg(*words)
    assert done.code == 4
    (document,) = done.json["benches"]
    assert document["device"].startswith("cpu-")
    assert document["rows"][0]["median_ms"] > 0
    for name in ("a@127.0.0.1:1", "b@127.0.0.1:2"):
        assert f"edgeseg: {name} cannot be reached" in done.err
    assert "Traceback" not in done.err
