"""The rewrites through the real command: which are applied, how they are chosen, and that masks stay."""

from __future__ import annotations

import json

import onnx
import pytest

from edgeseg.core import manifest

SMALL = ("--input-size", "102x62")


def rewrites_of(folder):
    return [line.split(" ")[0] for line in manifest.read(folder).manifest.rewrites if not line.startswith("onnxsim")]


def test_the_manifest_lists_what_was_applied(edgeseg, weights_file, tmp_path):
    folder = tmp_path / "exports/pphumanseg-lite/onnx-fp32"
    done = edgeseg("export", weights_file, "--target", "onnx", *SMALL)
    assert done.code == 0, done.err
    assert {"split-concat", "unshuffle", "align"} <= set(rewrites_of(folder))
    reference = onnx.load(tmp_path / "exports/pphumanseg-lite/reference/model.onnx")
    assert "Transpose" in {node.op_type for node in reference.graph.node}  # the reference is not rewritten
    assert edgeseg("export", weights_file, "--target", "onnx", "--no-rewrites", *SMALL).code == 0
    assert rewrites_of(folder) == []
    assert edgeseg("export", weights_file, "--target", "onnx", "--rewrites", "align,unshuffle", *SMALL).code == 0
    assert rewrites_of(folder) == ["unshuffle", "align"]


def test_an_unknown_rewrite_is_refused(edgeseg, weights_file):
    edgeseg("export", weights_file, "--rewrites", "unshufle", *SMALL).refused("unknown rewrite 'unshufle'", "unshuffle")


def test_raw_logits_keep_the_values_of_the_head(edgeseg, need, weights_file, tmp_path):
    need("openvino", "pip install 'edgeseg[openvino]'")
    folder = tmp_path / "exports/pphumanseg-lite/openvino-fp32"
    assert edgeseg("export", weights_file, "--target", "openvino", *SMALL).code == 0
    assert "difference-head" in rewrites_of(folder)
    assert edgeseg("export", weights_file, "--target", "openvino", "--raw-logits", *SMALL).code == 0
    assert "difference-head" not in rewrites_of(folder)


def test_int8_is_made_of_the_rewritten_graph(edgeseg, weights_file, tmp_path):
    done = edgeseg("quantize", weights_file, "--target", "onnx", "--calib", "sample:8", "--ranges", "minmax",
                   "--min-agreement", "90", "--max-drop", "20", *SMALL)  # fmt: skip
    assert done.code == 0, done.err
    folder = tmp_path / "exports/pphumanseg-lite/onnx-int8"
    assert "unshuffle" in rewrites_of(folder)
    kinds = {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}
    assert "Transpose" not in kinds
    assert "QuantizeLinear" in kinds


@pytest.mark.slow
def test_tuning_is_saved_and_replayed(edgeseg, weights_file, tmp_path):
    folder = tmp_path / "exports/pphumanseg-lite/onnx-fp32"
    done = edgeseg("export", weights_file, "--target", "onnx", "--tune", *SMALL)
    assert done.code == 0, done.err
    tuning = json.loads((folder / "tuning.json").read_text())
    assert tuning["target"] == "onnx-fp32"
    assert set(rewrites_of(folder)) <= set(tuning["rewrites"])
    kept = tmp_path / "tuning.json"
    kept.write_text(json.dumps(tuning))
    before = (folder / "model.onnx").read_bytes()
    assert edgeseg("export", weights_file, "--target", "onnx", "--rewrites", kept, *SMALL).code == 0
    assert (folder / "model.onnx").read_bytes() == before
    edgeseg("export", weights_file, "--target", "tflite", "--rewrites", kept, *SMALL).refused(
        "measured for onnx-fp32, not for tflite-fp32"
    )


@pytest.mark.slow
def test_no_pixel_of_the_real_network_flips(edgeseg, shared, tmp_path):
    checkpoint = shared / "checkpoints/pphumanseg_lite_portrait/model.pdparams"
    photos = shared / "data/portraits/val.txt"
    targets = "onnx,openvino,tflite"
    done = edgeseg("export", checkpoint, "--target", targets, "--data", photos, "--mask-values", "0,255")
    assert done.code == 0, done.err
    folders = [f"exports/pphumanseg-lite/{name}-fp32" for name in targets.split(",")]
    done = edgeseg("verify", *folders, "--data", photos, "--mask-values", "0,255", "--json")
    for entry in done.json["artifacts"]:
        assert entry["agreement"]["images"] == 125
        assert entry["agreement"]["flipped_pixels"] == 0
    assert all(rewrites_of(tmp_path / folder) for folder in folders)
