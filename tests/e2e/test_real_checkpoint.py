"""The paper's own trained network on real photos; skipped where they are not beside the repository."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from edgeseg import checkpoints
from edgeseg.architectures import pphumanseg_lite
from edgeseg.data.dataset import open_dataset
from edgeseg.data.preprocess import to_input, to_mask
from edgeseg.graph.pin import pin_input
from edgeseg.metrics.confusion import confusion, mean_iou

SIZE = (398, 224)


@pytest.fixture(scope="module")
def published(shared):
    return shared / "checkpoints/pphumanseg_lite_portrait"


@pytest.fixture(scope="module")
def photos(shared):
    return open_dataset(str(shared / "data/portraits/val.txt"), mask_values="0,255")


@pytest.fixture(scope="module")
def ours(published):
    weights = checkpoints.read(published / "model.pdparams").weights
    return pphumanseg_lite.build(weights, size=SIZE, head="softmax")


def session(model) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_our_graph_is_paddle2onnxs_on_every_photo(published, photos, ours):
    model, spec = ours
    mine = session(model)
    other = ort.InferenceSession(str(published / "paddle2onnx.onnx"), providers=["CPUExecutionProvider"])
    other_input = other.get_inputs()[0].name
    worst = 0.0
    sums = np.zeros((2, 2, 2), np.int64)
    for sample in photos.stream():
        tensor = to_input(sample.image, spec)
        outputs = mine.run(None, {spec.input_name: tensor})[0], other.run(None, {other_input: tensor})[0]
        worst = max(worst, float(np.abs(outputs[0] - outputs[1]).max()))
        for matrix, output in zip(sums, outputs, strict=True):
            matrix += confusion(sample.mask, to_mask(output, spec, *sample.mask.shape), 2)
    assert worst <= 1e-5
    mine_miou, other_miou = mean_iou(sums[0]), mean_iou(sums[1])
    assert round(mine_miou, 4) == round(other_miou, 4)
    assert 0.92 <= mine_miou <= 0.935


@pytest.mark.parametrize(
    "form", ["paddle2onnx.onnx", "paddle2onnx_2021_dynamic.onnx", "inference_pir", "inference_legacy"]
)
def test_every_form_of_the_checkpoint_gives_the_same_masks(published, photos, ours, form, need_paddle):
    if form.startswith("inference"):
        need_paddle()
    model, spec = ours
    other = session(pin_input(checkpoints.read(published / form).model, SIZE))
    mine = session(model)
    name = other.get_inputs()[0].name
    for sample in photos.head(12).stream():
        tensor = to_input(sample.image, spec)
        expected = mine.run(None, {spec.input_name: tensor})[0]
        found = other.run(None, {name: tensor})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(to_mask(found, spec, 309, 549), to_mask(expected, spec, 309, 549))


def test_the_main_job(edgeseg, need, published, shared):
    """The README's commands: export, then verify on all photos."""
    need("openvino", "pip install 'edgeseg[openvino]'")
    done = edgeseg("export", published / "model.pdparams", "--target", "onnx,openvino", "--input-size", "398x224")
    assert done.code == 0, done.err
    done = edgeseg(
        "verify", "exports/pphumanseg-lite/onnx-fp32", "exports/pphumanseg-lite/openvino-fp32",
        "--data", shared / "data/portraits/val.txt", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "{0 = background, 255 = person}, inferred" in done.err
    for artifact in done.json["artifacts"]:
        assert artifact["agreement"]["flipped_share"] <= 1e-6
        assert artifact["scores"]["miou"] == pytest.approx(artifact["reference"]["miou"], abs=1e-5)
        assert 0.92 <= artifact["scores"]["miou"] <= 0.935
