"""The real command on the small random network."""

import json

import numpy as np
import pytest

from edgeseg.core import manifest
from edgeseg.quantization import recipe

SMALL = ("--input-size", "96x64")
LOOSE = ("--min-agreement", "90", "--max-drop", "50", "--max-connectivity-drop", "100")
"""Random weights make masks of noise: what is held here is the machinery, not the accuracy."""


@pytest.fixture
def quantize(edgeseg, weights_file):
    def run(*words, calib="sample:8", ranges="minmax", max_float="0"):
        fixed = ("--calib", calib, "--ranges", ranges, "--max-float", max_float)
        return edgeseg("quantize", weights_file, "--int8", *SMALL, *fixed, *words)

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
        # All convolutions; OpenVINO resizes the scores by two matrix products in float, which count as well.
        assert record.integer_mac_share > (0.97 if "matmul-resize" in " ".join(artifact.manifest.rewrites) else 0.99)
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


def test_what_may_stay_in_float(edgeseg, quantize, tmp_path):
    """Which layers it is depends on the network (see `test_qdq`); no more than was said, and the recipe names them."""
    words = (
        "quantize",
        "--target",
        "onnx",
        "--calib",
        "sample:8",
        "--ranges",
        "minmax",
        "--json",
        "--min-agreement",
        "50",
    )
    whole, default = edgeseg(*words, "--max-float", "0"), edgeseg(*words)
    assert whole.code == default.code == 0, whole.err + default.err
    assert whole.json["recipe"]["floating"] == []
    assert whole.json["artifacts"][0]["quantization"]["integer_mac_share"] == 1.0
    share = default.json["artifacts"][0]["quantization"]["integer_mac_share"]
    assert 0.65 < share <= 1.0, "channels that are padded for a runtime are multiplied, too"
    assert (share < 1.0) == bool(default.json["recipe"]["floating"])
    assert default.json["recipe"]["error"] <= whole.json["recipe"]["error"]
    refused = quantize(max_float="120")
    assert refused.code == 2
    assert "'120' is no share in per cent, 0 to 100" in refused.err


def test_input_and_output_in_int8(quantize, edgeseg, need, tmp_path):
    """What runs the file is told scale and zero point, and verify, bench and the worker go by them."""
    need("ai_edge_litert", "pip install 'edgeseg[tflite]'", what="tflite")
    from edgeseg.backends.tflite import runtime
    from edgeseg.data.preprocess import scores, to_input
    from edgeseg.data.sample import sample

    folder = tmp_path / "exports/pphumanseg-lite/tflite-int8"
    assert quantize("--target", "tflite", *LOOSE).code == 0
    plain = manifest.read(folder)
    before = runtime.TfliteSession(plain.model_file.read_bytes(), 1)
    assert quantize("--io", "int8", *LOOSE).code == 0
    artifact = manifest.read(folder)
    spec = artifact.manifest.spec
    session = runtime.TfliteSession(artifact.model_file, 1)
    for details, stored in (
        (session.inputs["image"], spec.input_stored),
        (session.outputs["logits"], spec.output_stored),
    ):
        assert details["dtype"] == np.int8
        assert details["quantization"] == pytest.approx((stored.scale, stored.zero))
    picture = sample(3)[0]
    assert to_input(picture, spec).dtype == np.int8
    real = scores(before.run({"image": to_input(picture, plain.manifest.spec)})["logits"], plain.manifest.spec)
    given = scores(session.run({"image": to_input(picture, spec)})["logits"], spec)
    assert np.abs(given - real).max() <= 1.01 * spec.output_stored.scale, "the last rounding of both classes"
    done = edgeseg("verify", folder, "--data", "sample:4", "--json", *LOOSE)
    assert done.code == 0, done.err
    done = edgeseg("bench", folder, "--data", "sample:4", "--budget", "2", "--json")
    assert done.code == 0, done.err
    [row] = done.json["benches"][0]["rows"]
    assert row["flipped_share"] < 0.1
    assert row["median_ms"] > 0
    quantize("--io", "int8", "--target", "onnx,tflite").refused("--io int8 is for tflite", "--target tflite")


@pytest.mark.slow
def test_sizes(quantize, edgeseg, weights_file, need, tmp_path):
    """A quarter of the weights' bytes, and what 32-bit biases add to them; scales are counted in the file alone."""
    import onnx

    need("ai_edge_litert", "pip install 'edgeseg[tflite]'", what="tflite")
    targets = ("--target", "onnx,tflite")
    assert edgeseg("export", weights_file, *SMALL, *targets, "--no-rewrites", "--data", "sample:2").code == 0
    assert quantize(*targets, "--no-rewrites", *LOOSE).code == 0
    folder = tmp_path / "exports/pphumanseg-lite"

    def weight_bytes(name, ending=""):
        constants = onnx.load(folder / name / "model.onnx").graph.initializer
        return sum(onnx.numpy_helper.to_array(one).nbytes for one in constants if one.name.endswith(ending))

    assert 0.25 * weight_bytes("onnx-fp32") < weight_bytes("onnx-int8", ".q") <= 0.30 * weight_bytes("onnx-fp32")
    small, plain = (manifest.read(folder / f"tflite-{name}").size_bytes for name in ("int8", "fp32"))
    assert small <= 0.45 * plain


@pytest.mark.slow
def test_ort_for_tflite(quantize, need, tmp_path):
    """quantize_static's own placement, with ReLUs between the pairs, in the same writer."""
    need("ai_edge_litert", "pip install 'edgeseg[tflite]'", what="tflite")
    done = quantize("--target", "tflite", "--method", "ort", "--min-agreement", "50", *LOOSE[2:])
    assert done.code == 0, done.err
    record = manifest.read(tmp_path / "exports/pphumanseg-lite/tflite-int8").manifest.quantization
    assert record.method == "ort"
    assert record.integer_mac_share > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ort", "dynamic"])
def test_the_standard_alternatives(quantize, tmp_path, method):
    # Weights of 8 bits saturate in ONNX Runtime's kernels on x86 without VNNI, so what these masks are is open.
    done = quantize("--target", "onnx", "--method", method, "--min-agreement", "50", *LOOSE[2:])
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


PLANTED = "depthwise_separable1.piontwise_conv"
"""In front of the head, and read by a depthwise convolution."""


@pytest.fixture
def planted(tmp_path):
    """The bundled network with one channel of 200 times its range in front of the head; the same network in float."""
    from edgeseg import checkpoints
    from edgeseg.assets import bundled

    weights = {name: np.array(values) for name, values in checkpoints.read(bundled()).weights.items()}
    for name in ("weight", "bias"):
        weights[f"{PLANTED}._batch_norm.{name}"][20] *= 200
    weights["depthwise_separable2.depthwise_conv._conv.weight"][20] /= 200
    np.savez(tmp_path / "planted.npz", **weights)
    return tmp_path / "planted.npz"


@pytest.mark.slow
def test_one_channel_of_200_times_the_others_range(edgeseg, planted, tmp_path):
    words = ("--target", "onnx", "--calib", "sample:32", "--max-float", "0", "--json")
    plain = edgeseg("quantize", planted, *words, "--method", "ort")
    assert plain.code == 3, "plain quantisation has to fail here, or the network proves nothing"
    done = edgeseg("quantize", planted, *words)
    assert done.code == 0, done.err
    [artifact] = done.json["artifacts"]
    assert artifact["parity"]["passed"]
    lost = artifact["reference"]["miou"] - artifact["scores"]["miou"]
    assert lost <= 0.003
    assert artifact["quantization"]["integer_mac_share"] > 0.99, "equalised, not left in float"
    assert done.json["recipe"]["factors"][f"{PLANTED}.conv"][20] == 1.0


@pytest.mark.slow
def test_layers_stay_in_float_until_the_masks_agree(edgeseg, tmp_path):
    """A gate just above what all of it in int8 reaches: the search pays for it with some layers, not with all."""
    words = (
        "--target",
        "onnx",
        "--calib",
        "sample:16",
        "--input-size",
        "192x112",
        "--ranges",
        "minmax",
        "--max-float",
        "0",
    )
    whole = edgeseg("quantize", *words, "--json")
    error = whole.json["recipe"]["error"]
    done = edgeseg("quantize", *words, "--min-agreement", f"{100 * (1 - 0.95 * error):.4f}")
    folder = next((tmp_path / "exports").glob("*/onnx-int8"))
    record = manifest.read(folder).manifest.quantization
    assert record.floating
    assert "stays in float" in done.out
    assert 0.1 < record.integer_mac_share < 0.999
    document = json.loads((folder / "recipe.json").read_text())
    assert document["ranking"][0]["error"] < document["error"]
    assert set(document["floating"]) == set(record.floating)


def test_a_gate_out_of_reach_ends_in_a_trade_off_that_is_named(quantize, tmp_path):
    """Not one pixel may change: no choice of float layers does that, and leaving nearly all in float would be for nothing."""
    done = quantize("--target", "onnx", "--min-agreement", "100", *LOOSE[2:])
    assert done.code == 3, done.err
    lines = done.err.splitlines()
    [told] = [index for index, line in enumerate(lines) if "no choice of float layers" in line]
    assert "the best trade-off leaves" in lines[told]
    assert "hint: a gate that is within reach" in lines[told + 1]
    assert "Traceback" not in done.err
    record = manifest.read(tmp_path / "exports/pphumanseg-lite/onnx-int8").manifest.quantization
    assert record.integer_mac_share > 0.5, "what does not mend the masks enough is not paid for"


@pytest.mark.slow
def test_a_collapse_is_named_and_exits_with_3(edgeseg, tmp_path):
    """A recipe in which the head reads next to nothing: what is left of the scores is their bias, one class everywhere."""
    words = ("--target", "onnx", "--input-size", "192x112")
    assert edgeseg("quantize", *words, "--calib", "sample:8", "--ranges", "minmax").code in (0, 3)
    folder = next((tmp_path / "exports").glob("*/onnx-int8"))
    document = json.loads((folder / "recipe.json").read_text())
    document["ranges"][-2]["step"] = 1e-9
    (tmp_path / "broken.json").write_text(json.dumps(document))
    done = edgeseg("quantize", *words, "--recipe", "broken.json", "--data", "sample:8")
    assert done.code == 3
    assert "the masks have collapsed" in done.err
    assert "is about half the accuracy" in done.err


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
