"""What is deployed: importable with numpy and the runtime alone, and files that old runtimes open."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeseg.backends.tflite import runtime as deployed
from edgeseg.core.errors import ArtifactError, MissingDependency

FORBIDDEN = ("onnx", "onnxruntime", "flatbuffers", "cv2", "torch", "platformdirs")


def test_loading_the_backend_needs_neither_onnx_nor_a_writer():
    program = f"""
import sys
for name in {FORBIDDEN!r}:
    sys.modules[name] = None
from edgeseg.backends.tflite import BACKEND
assert "edgeseg.backends.tflite.convert" not in sys.modules
assert "ai_edge_litert" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_a_runtime_the_command_is_said(monkeypatch):
    monkeypatch.setattr(deployed, "RUNTIMES", ("no_such_litert.interpreter",))
    with pytest.raises(MissingDependency, match="no_such_litert") as caught:
        deployed.runtime()
    assert caught.value.hint == "pip install 'edgeseg[tflite]'"


def test_a_damaged_file_is_refused(runtime, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 64)
    with pytest.raises(ArtifactError, match=r"cannot open model\.tflite"):
        deployed.TfliteSession(tmp_path / "model.tflite")


NEWEST_IN_2_14 = {
    "ADD": 5, "ARG_MAX": 3, "AVERAGE_POOL_2D": 3, "BATCH_MATMUL": 4, "BROADCAST_TO": 3, "CAST": 5, "CONCATENATION": 4,
    "CONV_2D": 8, "DEPTHWISE_CONV_2D": 7, "DEQUANTIZE": 6, "DIV": 2, "EXP": 2, "FULLY_CONNECTED": 11, "GATHER": 7,
    "GELU": 2, "LOGISTIC": 3, "MAXIMUM": 4, "MAX_POOL_2D": 3, "MEAN": 3, "MINIMUM": 4, "MUL": 7, "PAD": 4, "PADV2": 4,
    "RELU": 3, "RESHAPE": 2, "RESIZE_BILINEAR": 4, "RESIZE_NEAREST_NEIGHBOR": 4, "SLICE": 6, "SOFTMAX": 3, "SPLIT": 4,
    "STRIDED_SLICE": 8, "SUB": 5, "TRANSPOSE": 6, "TRANSPOSE_CONV": 5,
}  # fmt: skip
"""Versions in TensorFlow Lite 2.14's `kernels/register.cc`."""


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "kind", "version"),
    [
        ("Conv", [(1, 4, 6, 6), (4, 4, 3, 3)], {}, "CONV_2D", 1),
        ("Conv", [(1, 4, 6, 6), (4, 1, 3, 3)], {"group": 4}, "DEPTHWISE_CONV_2D", 1),
        ("Conv", [(1, 4, 6, 6), (4, 1, 3, 3)], {"group": 4, "dilations": [2, 2]}, "DEPTHWISE_CONV_2D", 2),
        ("ConvTranspose", [(1, 4, 6, 6), (4, 4, 2, 2)], {"strides": [2, 2]}, "TRANSPOSE_CONV", 3),
        ("Gemm", [(2, 4), (4, 3)], {}, "FULLY_CONNECTED", 1),
        ("MatMul", [(2, 3, 4), (4, 3)], {}, "FULLY_CONNECTED", 5),
        ("Transpose", [(2, 3, 4, 5)], {"perm": [3, 2, 1, 0]}, "TRANSPOSE", 1),
        ("Transpose", [(2, 3, 4, 5, 2)], {"perm": [4, 3, 2, 1, 0]}, "TRANSPOSE", 4),
        ("Add", [(2, 3, 4, 5), (3, 1, 1)], {}, "ADD", 1),
        ("Softmax", [(2, 3, 4)], {}, "SOFTMAX", 1),
    ],
)
def test_no_version_is_newer_than_needed(check_node, rand, op, inputs, attributes, kind, version):
    from edgeseg.backends.tflite.schema import version as version_of

    lowered = check_node(op, *(rand(*shape) for shape in inputs), **attributes)
    [found] = {version_of(o, lowered.builder.tensors) for o in lowered.builder.operators if o.kind == kind}
    assert found == version <= NEWEST_IN_2_14[kind]


def test_the_old_runtime_gives_the_same_values(make_model, need, rand, tmp_path):
    need("tflite_runtime", "pip install 'tflite-runtime==2.14' 'numpy<2' (Python 3.9 to 3.11)")
    from onnx import helper

    from edgeseg.backends.tflite import parity
    from edgeseg.backends.tflite.lowering import lower

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["c", "", "s"], ["y"], mode="linear"),
    ]
    feeds = {"x": rand(1, 3, 6, 6)}
    constants = {"w": rand(4, 3, 3, 3), "s": np.array([1, 1, 2, 2], np.float32)}
    model = make_model(nodes, feeds, constants)
    lowered = lower(model)
    from tflite_runtime.interpreter import Interpreter

    old = Interpreter(model_content=lowered.builder.serialize(half=True))
    found = old.get_signature_runner("serving_default")(**feeds)["y"]
    [expected] = parity.reference(model).run(None, feeds)
    assert parity.difference(expected, found) < 1e-2
