"""The real command on the small random network."""

import json

import numpy as np
import pytest

from edgeseg.core import manifest
from edgeseg.quantization import recipe

SMALL = ("--input-size", "96x64")
LOOSE = ("--min-agreement", "90", "--max-drop", "10")
"""Random weights make masks of noise: what is held here is the machinery, not the accuracy."""


@pytest.fixture
def quantize(edgeseg, weights_file):
    def run(*words, calib="sample:8", ranges="minmax"):
        return edgeseg("quantize", weights_file, "--int8", *SMALL, "--calib", calib, "--ranges", ranges, *words)

    return run


def test_three_targets_from_one_calibration(quantize, edgeseg, need, tmp_path):
    need("openvino", "pip install 'edgeseg[openvino]'")
    need("ai_edge_litert", "pip install 'edgeseg[tflite]'", what="tflite")
    done = quantize(*LOOSE)
    assert done.code == 0, done.err
    assert "8 calibration pictures are few" in done.err
    folder = tmp_path / "exports/pphumanseg-lite"
    recipes = set()
    for name in ("onnx", "openvino", "tflite"):
        artifact = manifest.read(folder / f"{name}-int8")
        record = artifact.manifest.quantization
        assert artifact.manifest.precision == "int8"
        assert record.method == "edgeseg"
        assert (record.calibration, record.count) == ("sample:8", 8)
        assert record.integer_mac_share > 0.99
        assert sum(record.ranges.values()) == 36
        assert artifact.manifest.parity.passed
        recipes.add((artifact.folder / recipe.FILE).read_bytes())
    assert len(recipes) == 1
    done = edgeseg("verify", *(folder / f"{name}-int8" for name in ("onnx", "openvino", "tflite")),
                   "--data", "sample:4", "--json", *LOOSE)  # fmt: skip
    assert done.code == 0, done.err
    assert {entry["artifact"] for entry in done.json["artifacts"]} == {
        f"pphumanseg-lite/{name}-int8" for name in ("onnx", "openvino", "tflite")
    }


def test_a_recipe_is_replayed_and_edited(quantize, edgeseg, weights_file, tmp_path):
    assert quantize("--target", "onnx", "--rank", *LOOSE).code == 0
    file = tmp_path / "exports/pphumanseg-lite/onnx-int8/recipe.json"
    first = manifest.read(file.parent)
    document = json.loads(file.read_text())
    assert document["ranking"][0]["layers"]
    kept = tmp_path / "kept.json"
    kept.write_text(file.read_text())
    words = ("quantize", weights_file, *SMALL, "--target", "onnx", "--recipe", kept, "--data", "sample:4", *LOOSE)
    assert edgeseg(*words).code == 0
    assert manifest.read(file.parent).manifest.files == first.manifest.files
    document["floating"] = document["ranking"][0]["layers"][:1]
    kept.write_text(json.dumps(document))
    done = edgeseg("quantize", weights_file, *SMALL, "--target", "onnx", "--recipe", kept, "--data", "sample:4", *LOOSE)
    assert done.code == 0, done.err
    again = manifest.read(file.parent)
    assert again.manifest.quantization.floating == tuple(document["floating"])
    assert again.manifest.quantization.integer_mac_share < first.manifest.quantization.integer_mac_share
    document["ranges"][0]["colour"] = "blue"
    kept.write_text(json.dumps(document))
    edgeseg("quantize", weights_file, *SMALL, "--recipe", kept).refused("unknown field 'colour'")
    edgeseg("quantize", weights_file, *SMALL, "--recipe", "nowhere.json").refused("there is no recipe at nowhere.json")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ort", "dynamic"])
def test_the_standard_alternatives(quantize, tmp_path, method):
    # Weights of 8 bits saturate in ONNX Runtime's kernels on x86 without VNNI, so what these masks are is open.
    done = quantize("--target", "onnx", "--method", method, "--min-agreement", "50", "--max-drop", "50")
    assert done.code == 0, done.err
    record = manifest.read(tmp_path / "exports/pphumanseg-lite/onnx-int8").manifest.quantization
    assert record.method == method
    assert record.integer_mac_share > 0.9


def raw_bgr(spec, count=8):
    """Network inputs as a widely copied INT8 of this network was calibrated on: 0..255, BGR."""
    from dataclasses import replace

    from edgeseg.data.preprocess import to_input
    from edgeseg.data.sample import sample

    wrong = replace(spec, color="bgr", mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)
    return np.concatenate([to_input(sample(index)[0], wrong) for index in range(count)])


def test_the_wrong_calibration_is_refused_and_seen_when_forced(quantize, tmp_path):
    from edgeseg.core.spec import ModelSpec

    np.save(tmp_path / "raw.npy", raw_bgr(ModelSpec("net", 96, 64, "image", "logits")))
    words = ("--target", "onnx", "--data", "sample:4")
    quantize(*words, calib="raw.npy").refused("raw pixels of 0..255 that were never normalised", "--calib")
    assert not (tmp_path / "exports").exists()
    done = quantize(*words, "--calib-anyway", calib="raw.npy")
    assert done.code == 3, done.out
    assert "of the pixels agree with the reference, the gate is 99 %" in done.err
    assert "calibration: the calibration tensors lie in" in done.err
    assert not manifest.read(tmp_path / "exports/pphumanseg-lite/onnx-int8").manifest.parity.passed


@pytest.mark.slow
def test_one_channel_of_200_times_the_others_range(edgeseg, connectnet_weights, tmp_path):
    """The same network in float; in int8 the other channels share what one step of the scale leaves them."""
    weights = dict(connectnet_weights)
    for name in ("weight", "bias"):
        key = f"depthwise_separable1.piontwise_conv._batch_norm.{name}"
        weights[key] = weights[key].copy()
        weights[key][20] *= 200
    key = "depthwise_separable2.depthwise_conv._conv.weight"
    weights[key] = weights[key].copy()
    weights[key][20] /= 200
    np.savez(tmp_path / "planted.npz", **weights)
    words = ("quantize", "planted.npz", *SMALL, "--target", "onnx", "--calib", "sample:8", "--ranges", "minmax")
    gates = ("--min-agreement", "98", "--max-drop", "5")
    done = edgeseg(*words, *gates)
    assert done.code == 0, done.err
    record = manifest.read(tmp_path / "exports/pphumanseg-lite/onnx-int8").manifest.quantization
    assert "depthwise_separable2.depthwise_conv.conv" in record.floating
    assert "stays in float" in done.out
    assert record.integer_mac_share > 0.3
    document = json.loads((tmp_path / "exports/pphumanseg-lite/onnx-int8/recipe.json").read_text())
    assert document["error"] > 0.03, "all in int8 it would have failed"
    assert document["ranking"][0]["part"] == "depthwise_separable1.piontwise_conv.relu"


@pytest.mark.slow
def test_from_an_artifact(quantize, edgeseg, weights_file, tmp_path):
    assert edgeseg("export", weights_file, "--target", "onnx", *SMALL).code == 0
    done = edgeseg("quantize", "exports/pphumanseg-lite/onnx-fp32", "--target", "onnx", "--calib", "sample:8", *LOOSE)
    assert done.code == 0, done.err
    assert manifest.read(tmp_path / "exports/pphumanseg-lite/onnx-int8").manifest.spec.width == 96


def test_bad_requests(quantize, edgeseg, weights_file, tmp_path):
    quantize("--target", "onnx", "--method", "magic").refused("unknown method 'magic'")
    quantize("--target", "onnx", ranges="p50").refused("unknown range method 'p50'")
    quantize("--target", "openvin").refused("did you mean 'openvino'?")
    quantize("--target", "tflite", "--method", "dynamic").refused("is for onnx alone")
    quantize("--target", "onnx", calib="sample:3").refused("3 calibration pictures are too few")
    np.save(tmp_path / "flat.npy", np.zeros((8, 10), np.float32))
    quantize("--target", "onnx", "--data", "sample:4", calib="flat.npy").refused("expected [N, C, H, W]")
    np.save(tmp_path / "half.npy", np.zeros((8, 3, 32, 48), np.float32))
    quantize("--target", "onnx", "--data", "sample:4", calib="half.npy").refused("the network's input is")
    quantize("--target", "onnx", calib="half.npy").refused("ready-made tensors have no masks")
    edgeseg("export", weights_file, *SMALL, "--precision", "int8").refused("edgeseg quantize --int8")
    assert not (tmp_path / "exports").exists()
