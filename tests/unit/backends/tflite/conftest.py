"""Small ONNX graphs, written as TFLite and compared with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

OPSET = 18


@pytest.fixture
def runtime(need):
    """What the tests of this folder need."""
    need("ai_edge_litert", "pip install 'edgeseg[tflite]'", what="tflite")


def _model(nodes, feeds, constants, outputs, opset):
    """A checked ModelProto; the outputs' types are inferred, those that cannot be are float."""
    import onnx
    from onnx import helper, numpy_helper

    def info(name, value):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)

    graph = helper.make_graph(
        nodes,
        "graph",
        [info(name, value) for name, value in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    )


@pytest.fixture
def make_model():
    """`make_model(nodes, feeds, constants, outputs)`: a ModelProto."""

    def make(nodes, feeds, constants=None, outputs=("y",), opset=OPSET):
        return _model(nodes, feeds, constants or {}, outputs, opset)

    return make


@pytest.fixture
def compare(runtime):
    """`compare(model, feeds)`: lower, run both, and return the lowered graph; fails above the tolerance."""

    def run(model, feeds, tolerance=1e-5, orders=None):
        from edgeseg.backends.tflite import parity
        from edgeseg.backends.tflite.lowering import lower
        from edgeseg.backends.tflite.runtime import TfliteSession

        session = parity.reference(model)
        names = [output.name for output in session.get_outputs()]
        expected = dict(zip(names, session.run(None, feeds), strict=True))
        lowered = lower(model, orders)
        for delegate in (True, False):
            opened = TfliteSession(lowered.builder.serialize(), 1, delegate=delegate)
            found = parity.run(opened, lowered, feeds)
            for name, value in expected.items():
                apart = parity.difference(value, found[name])
                assert apart <= tolerance, f"{name}: {apart:.3g} (XNNPACK: {delegate})\n{value}\n{found[name]}"
        return lowered

    return run


@pytest.fixture
def check_node(make_model, compare):
    """`check_node("Op", *inputs, attribute=…)`: one node; the first `data` inputs are fed, the others constants."""

    def check(op, *inputs, data=1, outputs=1, opset=OPSET, tolerance=1e-5, **attributes):
        from onnx import helper

        names = ["" if value is None else f"in{index}" for index, value in enumerate(inputs)]
        given = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True) if name}
        results = ["y", *(f"y{index}" for index in range(1, outputs))]
        node = helper.make_node(op, names, results, name="the_node", **attributes)
        feeds = {name: given[name] for name in names[:data] if name}
        constants = {name: given[name] for name in names[data:] if name}
        return compare(make_model([node], feeds, constants, results, opset), feeds, tolerance)

    return check


@pytest.fixture
def rand():
    """`rand(1, 3, 8, 8)`: float32 numbers from a normal distribution, the same in every run."""
    rng = np.random.default_rng(7)
    return lambda *shape: rng.standard_normal(shape).astype(np.float32)
