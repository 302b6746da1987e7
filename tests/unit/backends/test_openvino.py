import numpy as np
import pytest

from edgeseg.architectures import pphumanseg_lite
from edgeseg.backends.openvino import BACKEND, model_info
from edgeseg.data.predictor import Predictor
from edgeseg.data.sample import sample


@pytest.fixture
def exported(need, connectnet_weights, tmp_path):
    need("openvino", "pip install 'edgeseg[openvino]'")
    model, spec = pphumanseg_lite.build(connectnet_weights, size=(96, 64))

    def convert(precision):
        conversion = BACKEND.convert(model, spec, precision, tmp_path)
        return conversion, tmp_path / conversion.files[0]

    return convert


def test_an_fp32_artifact_is_computed_in_fp32_whatever_the_cpu_prefers(exported):
    conversion, path = exported("fp32")
    session = BACKEND.load(path, conversion.spec, threads=1, options=conversion.runtime_options)
    floats = {precision for precision in session.executed_precisions().values() if not precision.startswith(("i", "u"))}
    assert floats == {"f32"}


def test_fp16_halves_the_weights(exported):
    _, path = exported("fp32")
    whole = path.with_suffix(".bin").stat().st_size
    exported("fp16")
    assert path.with_suffix(".bin").stat().st_size < 0.55 * whole


def test_the_spec_in_the_fields_of_model_api(exported):
    conversion, _ = exported("fp32")
    info = model_info(conversion.spec)
    assert info["mean_values"] == "127.5 127.5 127.5"
    assert info["labels"] == "background person"


def test_model_api_makes_our_masks_of_it(exported, need):
    need("model_api", "pip install openvino-model-api")
    from model_api.models import Model

    conversion, path = exported("fp32")
    session = BACKEND.load(path, conversion.spec, threads=1, options=conversion.runtime_options)
    ours = Predictor(conversion.spec, session)
    theirs = Model.create_model(str(path))
    differing = []
    for index in range(4):
        picture, _ = sample(index)
        mask = theirs(picture[..., ::-1]).resultImage  # Model API takes BGR
        differing.append(np.mean(mask != ours.mask(picture)))
    assert np.mean(differing) < 0.02  # it rounds the resized picture to 8 bit


class Refusing:
    """An OpenVINO core that has no integer kernels, as on Arm."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    def compile_model(self, model, device, config):
        self.asked.append(config)
        if "LP_TRANSFORMS_MODE" not in config:
            raise RuntimeError("Convolution input precision should be single")
        return "compiled"


def test_int8_that_arm_refuses_is_computed_in_float_there_and_nowhere_else(monkeypatch):
    from edgeseg.backends import openvino

    core = Refusing()
    monkeypatch.setattr(openvino, "_is_arm", lambda: True)
    assert openvino._compile(core, "model.xml", {"NUM_STREAMS": 1}) == "compiled"
    assert core.asked[-1] == {"NUM_STREAMS": 1, "LP_TRANSFORMS_MODE": "NO"}
    monkeypatch.setattr(openvino, "_is_arm", lambda: False)
    with pytest.raises(RuntimeError, match="should be single"):
        openvino._compile(Refusing(), "model.xml", {})


def test_model_info_prepares_nothing_where_frames_of_bytes_go_in():
    from edgeseg.core.spec import ModelSpec
    from edgeseg.graph.frames import frame_spec

    info = model_info(frame_spec(ModelSpec("sketch", 8, 8, "image", "scores", color="bgr")))
    assert info["mean_values"] == "0 0 0"
    assert info["scale_values"] == "1 1 1"
    assert info["reverse_input_channels"] == "True"
