"""``--input uint8`` through the real commands: the manifest says so, masks stay, and what is fed wrongly is caught."""

from __future__ import annotations

import json

import pytest

from edgeseg.core import manifest

SMALL = ("--input-size", "102x62")
OPEN = ("--min-agreement", "90", "--max-drop", "20")


@pytest.mark.parametrize("target", ["onnx", "openvino", "tflite"])
def test_frames_give_the_masks_of_the_reference(edgeseg, need, weights_file, tmp_path, target):
    need({"onnx": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert"}[target], what=target)
    done = edgeseg("export", weights_file, "--target", target, "--input", "uint8", *SMALL)
    assert done.code == 0, done.err
    folder = tmp_path / f"exports/pphumanseg-lite/{target}-fp32"
    document = manifest.read(folder).manifest
    assert (document.spec.input_dtype, document.spec.input_layout) == ("uint8", "nhwc")
    assert "uint8-input" in document.rewrites
    [found] = edgeseg("verify", folder, "--data", "sample:6", "--json").json["artifacts"]
    assert found["agreement"]["flipped_pixels"] == 0
    if target == "onnx":  # what the worker makes of the pictures is judged by the reference's masks of the same frames
        done = edgeseg("bench", folder, "--data", "sample:3", "--budget", "2")
        assert done.code == 0, done.err
        [results] = (tmp_path / "bench/results").glob("*/*.jsonl")
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        [accuracy] = [line for line in lines if line["kind"] == "accuracy" and line["item"] != "reference"]
        assert accuracy["agreement"]["flipped_pixels"] == 0
    # The same file, fed with blue for red: the check sees it.
    path = folder / manifest.MANIFEST
    content = json.loads(path.read_text())
    content["spec"]["color"] = "bgr"
    path.write_text(json.dumps(content))
    assert edgeseg("verify", folder, "--data", "sample:6").code == 3


def test_int8_takes_frames_too_and_bench_feeds_them(edgeseg, weights_file, tmp_path):
    done = edgeseg("quantize", weights_file, "--target", "onnx", "--calib", "sample:8", "--ranges", "minmax",
                   "--input", "uint8", *OPEN, *SMALL)  # fmt: skip
    assert done.code == 0, done.err
    folder = tmp_path / "exports/pphumanseg-lite/onnx-int8"
    assert manifest.read(folder).manifest.spec.input_dtype == "uint8"
    done = edgeseg("bench", folder, "--data", "sample:2", "--budget", "2", "--json")
    assert done.code == 0, done.err
    assert "uint8" not in done.err


def test_what_cannot_be(edgeseg, weights_file):
    edgeseg("quantize", weights_file, "--target", "tflite", "--io", "int8", "--input", "uint8", *SMALL).refused(
        "uint8 and int8 at once", "--io"
    )
    edgeseg("quantize", weights_file, "--target", "onnx", "--method", "ort", "--input", "uint8", *SMALL).refused(
        "edgeseg's own method", "--method"
    )
