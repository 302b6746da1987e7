import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeseg.core import manifest

ROOT = Path(__file__).parents[2]
SMALL = ("--input-size", "96x64")


def left_over(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if ".part" in path.name]


def test_export_and_verify(edgeseg, weights_file, tmp_path):
    done = edgeseg("export", weights_file, "--target", "onnx", *SMALL)
    assert done.code == 0, done.err
    assert "✓ pphumanseg-lite/onnx-fp32" in done.out
    artifact = manifest.read(tmp_path / "exports/pphumanseg-lite/onnx-fp32")
    document = artifact.manifest
    assert document.source.sha256 == manifest.sha256(weights_file)
    assert document.source.architecture == "pphumanseg-lite"
    assert document.parity.passed
    assert document.parity.synthetic
    assert document.command == f"edgeseg export {weights_file} --target onnx --input-size 96x64"
    assert {"edgeseg", "onnx", "onnxruntime", "onnxsim"} <= set(document.tools)
    assert document.spec.width == 96
    done = edgeseg("verify", "exports/pphumanseg-lite/onnx-fp32", "--data", "sample:6")
    assert done.code == 0, done.err
    assert "6 synthetic pictures" in done.out
    page = (tmp_path / "verify-pphumanseg-lite.html").read_text()
    assert page.count("<article>") == 6
    assert "https://" not in page


def test_json_is_one_document_and_nothing_else_is_on_stdout(edgeseg, weights_file):
    done = edgeseg("export", weights_file, "--target", "onnx", *SMALL, "--json")
    assert done.json["artifacts"][0]["parity"]["passed"] is True
    done = edgeseg("verify", "exports/pphumanseg-lite/onnx-fp32", "--data", "sample:4", "--json")
    entry = done.json["artifacts"][0]
    assert entry["passed"] is True
    assert entry["agreement"]["images"] == 4
    assert 0 <= entry["scores"]["miou"] <= 1
    assert done.json["synthetic"] is True
    done = edgeseg("doctor", "--json")
    assert {"backend", "checkpoint"} <= {check["kind"] for check in done.json["checks"]}


def test_every_target_and_precision(edgeseg, need, weights_file, tmp_path):
    need("openvino", "pip install 'edgeseg[openvino]'")
    for precision in ("fp32", "fp16"):
        done = edgeseg("export", weights_file, "--target", "onnx,openvino", "--precision", precision, *SMALL,
                       "--min-agreement", "98", "--max-drop", "5")  # fmt: skip
        assert done.code == 0, done.err
    folder = tmp_path / "exports/pphumanseg-lite"
    assert {path.name for path in folder.iterdir()} == {
        "reference", "onnx-fp32", "onnx-fp16", "openvino-fp32", "openvino-fp16",
    }  # fmt: skip
    half = manifest.read(folder / "onnx-fp16").size_bytes / manifest.read(folder / "onnx-fp32").size_bytes
    assert half < 0.65


def test_a_gate_that_is_missed_is_exit_code_3_and_says_by_how_much(edgeseg, weights_file, tmp_path):
    edgeseg("export", weights_file, "--target", "onnx", *SMALL)
    done = edgeseg("verify", "exports/pphumanseg-lite/onnx-fp32", "--data", "sample:3", "--min-miou", "0.99")
    assert done.code == 3
    assert "the gate is 0.9900" in done.err
    assert "✗ pphumanseg-lite/onnx-fp32" in done.out


def plant(folder: Path, change) -> None:
    """Put a changed network into an artifact, with a manifest that fits it."""
    artifact = manifest.read(folder)
    model = onnx.load(artifact.model_file)
    change(model)
    onnx.save(model, artifact.model_file)
    document = json.loads((folder / "manifest.json").read_text())
    entry = manifest.entry(artifact.model_file)
    document["files"][0].update(size_bytes=entry.size_bytes, sha256=entry.sha256)
    (folder / "manifest.json").write_text(json.dumps(document))


def swap_classes(model):
    tail = next(init for init in model.graph.initializer if init.name == "depthwise_separable2.piontwise_conv.weight")
    values = onnx.numpy_helper.to_array(tail)[::-1].copy()
    tail.CopyFrom(onnx.numpy_helper.from_array(values, tail.name))


def swap_colours(model):
    stem = next(init for init in model.graph.initializer if init.name == "conv_bn0.weight")
    values = onnx.numpy_helper.to_array(stem)[:, ::-1].copy()
    stem.CopyFrom(onnx.numpy_helper.from_array(values, stem.name))


def shift_by_one_pixel(model):
    last = model.graph.node[-1]
    wanted = last.output[0]
    last.output[0] = "unshifted"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 0, 0, 2, 0, 0, 0, -2], np.int64), "shift"))
    model.graph.node.append(helper.make_node("Pad", ["unshifted", "shift"], [wanted], mode="edge"))


def noise_in_the_weights(model):
    random = np.random.default_rng(0)
    for init in model.graph.initializer:
        if init.data_type == TensorProto.FLOAT and "weight" in init.name:
            values = onnx.numpy_helper.to_array(init)
            init.CopyFrom(
                onnx.numpy_helper.from_array(values * random.normal(1, 0.2, values.shape).astype("f"), init.name)
            )


@pytest.mark.parametrize("fault", [swap_classes, swap_colours, shift_by_one_pixel, noise_in_the_weights])
def test_planted_faults_are_caught(edgeseg, weights_file, tmp_path, fault):
    edgeseg("export", weights_file, "--target", "onnx", "--no-rewrites", *SMALL)  # the faults know its weights
    plant(tmp_path / "exports/pphumanseg-lite/onnx-fp32", fault)
    done = edgeseg("verify", "exports/pphumanseg-lite/onnx-fp32", "--data", "sample:6")
    assert done.code == 3, done.out
    assert "agree with the reference, the gate is 99.9 %" in done.err


def test_a_damaged_artifact_is_refused(edgeseg, weights_file, tmp_path):
    edgeseg("export", weights_file, "--target", "onnx", *SMALL)
    folder = tmp_path / "exports/pphumanseg-lite/onnx-fp32"
    with (folder / "model.onnx").open("ab") as handle:
        handle.write(b"x")
    edgeseg("verify", folder).refused("not the file that its manifest describes", "export the artifact again")
    (folder / "manifest.json").write_text('{"schema_version": 99}')
    edgeseg("verify", folder).refused("schema version 99")
    (folder / "manifest.json").unlink()
    edgeseg("verify", folder).refused("is not an artifact")


def test_a_reference_of_another_checkpoint_is_refused(edgeseg, weights_file, connectnet_weights, tmp_path):
    edgeseg("export", weights_file, "--target", "onnx", *SMALL)
    kept = (tmp_path / "exports/pphumanseg-lite/onnx-fp32").rename(tmp_path / "kept")
    np.savez(tmp_path / "other.npz", **{name: value * 1.01 for name, value in connectnet_weights.items()})
    edgeseg("export", "other.npz", "--target", "onnx", *SMALL)
    kept.rename(tmp_path / "exports/pphumanseg-lite/onnx-old")
    edgeseg("verify", "exports/pphumanseg-lite/onnx-old").refused(
        "is not the reference that", "export the artifact again"
    )


class Attack:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(edgeseg, tmp_path):
    (tmp_path / "evil.pdparams").write_bytes(pickle.dumps({"conv_bn0._conv.weight": Attack()}))
    edgeseg("export", "evil.pdparams", "--target", "onnx").refused("system")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "exports").exists()


def segmentation_less(path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["y"])], "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 1, 1])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_bad_checkpoints(edgeseg, weights_file, connectnet_weights, tmp_path):
    whole = weights_file.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    edgeseg("export", "cut.npz", "--target", "onnx").refused("cut.npz")
    np.savez(tmp_path / "other.npz", **{"encoder.weight": np.zeros((3, 3), np.float32)})
    edgeseg("export", "other.npz", "--target", "onnx").refused("encoder.weight", "--arch")
    edgeseg("export", "other.npz", "--target", "onnx", "--arch", "pphumanseg-lite").refused("conv_bn0._conv.weight")
    name = "block2.3._conv._conv.weight"
    np.savez(tmp_path / "nan.npz", **{**connectnet_weights, name: np.full_like(connectnet_weights[name], np.nan)})
    edgeseg("export", "nan.npz", "--target", "onnx").refused("NaN", name)
    segmentation_less(tmp_path / "classifier.onnx")
    edgeseg("export", "classifier.onnx", "--target", "onnx").refused("no output of the network is a mask")
    edgeseg("export", "nowhere.npz", "--target", "onnx").refused("nowhere.npz")
    (tmp_path / "page.onnx").write_text("<html>not found</html>")
    edgeseg("export", "page.onnx", "--target", "onnx").refused("page.onnx")
    assert not (tmp_path / "exports").exists()


def test_bad_requests(edgeseg, weights_file, tmp_path):
    edgeseg("export", weights_file, "--target", "openvin").refused(
        "unknown target 'openvin'", "did you mean 'openvino'?"
    )
    edgeseg("export", weights_file, "--precision", "fp8").refused("unknown precision 'fp8'")
    edgeseg("export", weights_file, "--precision", "int8").refused("int8")
    edgeseg("export", weights_file, "--arch", "unet").refused("unknown architecture 'unet'", "pphumanseg-lite")
    edgeseg("export", weights_file, "--data", "nowhere").refused("there is no data set at nowhere")
    (tmp_path / "empty").mkdir()
    edgeseg("export", weights_file, "--data", "empty").refused("is empty")
    (tmp_path / "empty/a.jpg").write_bytes(b"rubbish")
    edgeseg("export", weights_file, "--data", "empty").refused("a.jpg is not an image")
    assert edgeseg("export", "--input-size", "398").code == 2
    assert edgeseg("explode").code == 2
    assert not list((tmp_path).glob("exports/*/*"))


def test_a_full_disk_leaves_no_half_artifact(edgeseg, weights_file, tmp_path):
    """A limit on file sizes stands for the full disk: writing past it fails in the same way, and needs no root."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "sys.argv = ['edgeseg', *sys.argv[1:]]; from edgeseg.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "export", str(weights_file), "--target", "onnx", *SMALL],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "exports/pphumanseg-lite/onnx-fp32").exists()
    assert not left_over(tmp_path)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_export_leaves_the_old_artifact(edgeseg, weights_file, tmp_path, ending):
    edgeseg("export", weights_file, "--target", "onnx", *SMALL)
    folder = tmp_path / "exports/pphumanseg-lite"
    before = (folder / "onnx-fp32/manifest.json").read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeseg", "export", str(weights_file), "--target", "onnx", "--input-size", "398x224"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while (
        not list(folder.glob(".onnx-fp32.*.part/model.onnx")) and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.005)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    if ending == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted" in errors
        assert not left_over(tmp_path)
    assert (folder / "onnx-fp32/manifest.json").read_bytes() == before
    assert manifest.read(folder / "onnx-fp32").manifest.spec.width == 96


def test_an_onnx_network_of_somebody_else(edgeseg, tmp_path, connectnet_weights):
    """No spec in the file: what is assumed is said, what is told wins."""
    from edgeseg.architectures import pphumanseg_lite

    model, _ = pphumanseg_lite.build(connectnet_weights, size=(64, 48), head="softmax")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "my net.onnx")
    done = edgeseg("export", "my net.onnx", "--target", "onnx")
    assert done.code == 0, done.err
    assert "assumed RGB, mean 0.5,0.5,0.5" in done.err
    assert manifest.read(tmp_path / "exports/my-net/onnx-fp32").manifest.spec.output_kind == "probabilities"
    done = edgeseg(
        "export", "my net.onnx", "--target", "onnx", "--color", "bgr", "--mean", "0", "--std", "1", "--name", "other"
    )
    assert "assumed" not in done.err
    assert manifest.read(tmp_path / "exports/other/onnx-fp32").manifest.spec.color == "bgr"


def test_an_artifact_is_a_checkpoint_that_carries_its_spec(edgeseg, weights_file, tmp_path):
    edgeseg("export", weights_file, "--target", "onnx", *SMALL, "--color", "bgr")
    done = edgeseg("export", "exports/pphumanseg-lite/onnx-fp32/model.onnx", "--target", "onnx", "--name", "again")
    assert done.code == 0, done.err
    assert "assumed" not in done.err
    assert manifest.read(tmp_path / "exports/again/onnx-fp32").manifest.spec.color == "bgr"


def test_a_recipe_and_flags_that_win_over_it(edgeseg, weights_file, tmp_path):
    (tmp_path / "recipe.toml").write_text(
        'checkpoint = "weights.npz"\ninput_size = [96, 64]\nname = "mine"\ntarget = ["onnx"]\n'
    )
    assert edgeseg("export", "recipe.toml").code == 0
    assert manifest.read(tmp_path / "exports/mine/onnx-fp32").manifest.spec.width == 96
    assert edgeseg("export", "recipe.toml", "--input-size", "64x64").code == 0
    assert manifest.read(tmp_path / "exports/mine/onnx-fp32").manifest.spec.width == 64
    (tmp_path / "recipe.toml").write_text('checkpont = "weights.npz"\n')
    edgeseg("export", "recipe.toml").refused("unknown field 'checkpont'")
