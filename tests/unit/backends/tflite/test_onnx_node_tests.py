"""The ONNX project's own node tests: right, or refused by name, never silently wrong."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("ai_edge_litert", reason="pip install 'edgeseg[tflite]'")

from edgeseg.backends.tflite import ops, parity
from edgeseg.backends.tflite.context import LOWERINGS
from edgeseg.backends.tflite.lowering import lower
from edgeseg.backends.tflite.runtime import TfliteSession
from edgeseg.core.errors import EdgesegError, GraphError

FREE_INPUTS = {
    "Add", "And", "Div", "Einsum", "Equal", "Gemm", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "MatMul", "Max",
    "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor", "Concat", "CastLike",
}  # fmt: skip
"""Operators whose inputs are all data; of the others, all but the first are parameters, constant in any network."""

TYPES = {"float32", "int32", "int64", "int8", "uint8", "int16", "bool"}


def array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def fitting(case) -> bool:
    """One node of an operator that the writer knows, types that TFLite has, nothing empty."""
    nodes = case.model.graph.node
    if len(nodes) != 1 or nodes[0].domain not in ("", "ai.onnx") or nodes[0].op_type not in LOWERINGS:
        return False
    values = [*case.model.graph.input, *case.model.graph.output]
    if any(value.type.WhichOneof("value") != "tensor_type" for value in values):
        return False
    names = {onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name for value in values}
    arrays = [array(item) for inputs, outputs in case.data_sets for item in (*inputs, *outputs)]
    return names <= TYPES and all(item.size for item in arrays[:1])


def frozen(model, inputs):
    """The model with its parameters as constants, and the inputs that are left."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    given = {value.name: array(item) for value, item in zip(model.graph.input, inputs, strict=False)}
    if model.graph.node[0].op_type not in FREE_INPUTS:
        for value in list(model.graph.input)[1:]:
            model.graph.initializer.append(numpy_helper.from_array(given.pop(value.name), value.name))
            model.graph.input.remove(value)
    return model, given


def verdict(case) -> tuple[str, str]:
    """right, refused, caught (by the check after the conversion) or wrong, and why."""
    inputs, outputs = case.data_sets[0]
    model, feeds = frozen(case.model, inputs)
    try:
        lowered = lower(model)
        content = lowered.builder.serialize()
        parity.check(lowered, content)
    except GraphError as error:
        return ("caught" if "does not compute" in error.message else "refused"), error.message
    except EdgesegError as error:
        return "wrong", error.message
    found = parity.run(TfliteSession(content, 1), lowered, feeds)
    for value, expected in zip(case.model.graph.output, map(array, outputs), strict=True):
        got = found[value.name]
        if got.shape != expected.shape or got.dtype != expected.dtype:
            return "wrong", f"{got.dtype} {got.shape} instead of {expected.dtype} {expected.shape}"
        if not np.allclose(got, expected, rtol=case.rtol, atol=max(case.atol, 1e-6), equal_nan=True):
            return "wrong", f"off by {np.abs(got.astype(float) - expected.astype(float)).max():.3g}"
    return "right", ""


def verdicts() -> dict[str, dict[str, str]]:
    """Every fitting test by verdict, with the reason."""
    from onnx.backend.test.loader import load_model_tests

    ops.register_all()
    found: dict[str, dict[str, str]] = defaultdict(dict)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if fitting(case):
                kind, reason = verdict(case)
                found[kind][case.name] = reason
    return found


def test_right_or_refused_by_name_and_never_wrong():  # one test, so that parallel workers do it once
    found = verdicts()
    counts = {kind: len(cases) for kind, cases in found.items()}
    assert found["wrong"] == {}
    assert found["caught"] == {}, "the check after the conversion is for faults that nobody knows of"
    assert sum(counts.values()) >= 395, counts
    assert counts["right"] >= max(320, 0.85 * sum(counts.values())), counts
    reasons = r"cannot be(?!.*does not cover)|opset|ONNX Runtime cannot|is empty"
    assert {name: reason for name, reason in found["refused"].items() if not re.search(reasons, reason)} == {}
    for name in ("test_maxpool_3d_default", "test_averagepool_3d_default"):
        assert "3 spatial dimensions" in found["refused"][name]
