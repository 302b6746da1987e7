"""Small random networks for tests of the rewrites, and the two ways of running them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeseg.core.spec import ModelSpec
from edgeseg.graph.rewriting import Target

TARGET = Target("onnx", "fp32", block=8)


class Sketch:
    """A graph that is drawn node by node; every method returns the name of what it made."""

    def __init__(self, seed: int = 0, *, channels: int = 3, height: int = 12, width: int = 10) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.widths = {"image": channels}
        self.image = (1, channels, height, width)

    def op(self, kind: str, inputs: Sequence[str], width: int, **attributes: Any) -> str:
        name = f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        self.widths[name] = width
        return name

    def constant(self, data: Any) -> str:
        name = f"constant.{len(self.constants)}"
        self.constants[name] = np.asarray(data)
        return name

    def conv(self, x: str, width: int, *, kernel: int = 3, group: int = 1, bias: bool = True, **attributes: Any) -> str:
        inside = self.widths[x] // group
        weight = self.random.normal(size=(width, inside, kernel, kernel)) / np.sqrt(inside * kernel * kernel)
        inputs = [x, self.constant(weight.astype(np.float32))]
        if bias:
            inputs.append(self.constant(self.random.normal(size=width).astype(np.float32)))
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.op("Conv", inputs, width, group=group, kernel_shape=[kernel] * 2, **attributes)

    def depthwise(self, x: str, **attributes: Any) -> str:
        return self.conv(x, self.widths[x], group=self.widths[x], **attributes)

    def relu(self, x: str) -> str:
        return self.op("Relu", [x], self.widths[x])

    def concat(self, *parts: str) -> str:
        return self.op("Concat", parts, sum(self.widths[part] for part in parts), axis=1)

    def shuffle(self, x: str, height: int, width: int, groups: int = 2) -> str:
        channels = self.widths[x]
        split = self.constant(np.array([1, groups, channels // groups, height, width]))
        y = self.op("Reshape", [x, split], channels)
        y = self.op("Transpose", [y], channels, perm=[0, 2, 1, 3, 4])
        return self.op("Reshape", [y, self.constant(np.array([1, channels, height, width]))], channels)

    def halves(self, x: str) -> tuple[str, str]:
        names = (f"first.{len(self.nodes)}", f"second.{len(self.nodes)}")
        self.nodes.append(helper.make_node("Split", [x], names, name=names[0], axis=1))
        self.widths.update(dict.fromkeys(names, self.widths[x] // 2))
        return names

    def resize(self, x: str, height: int, width: int, **attributes: Any) -> str:
        sizes = self.constant(np.array([1, self.widths[x], height, width]))
        attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", **attributes}
        return self.op("Resize", [x, "", "", sizes], self.widths[x], **attributes)

    def model(self, *outputs: str, double: bool = False, kinds: Sequence[int] = ()) -> onnx.ModelProto:
        real = TensorProto.DOUBLE if double else TensorProto.FLOAT
        constants = {
            name: data.astype(np.float64) if double and data.dtype == np.float32 else data
            for name, data in self.constants.items()
        }
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info("image", real, self.image)],
            [
                helper.make_tensor_value_info(name, kind, None)
                for name, kind in zip(outputs, kinds or [real] * len(outputs), strict=True)
            ],
            [numpy_helper.from_array(data, name) for name, data in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def spec(output: str, kind: str = "logits", shape: tuple[int, int] = (10, 12), **more: Any) -> ModelSpec:
    """A spec for a sketch's output."""
    return ModelSpec("sketch", shape[0], shape[1], "image", output, output_kind=kind, **more)


def run(model: onnx.ModelProto, seed: int = 5) -> list[np.ndarray]:
    """All outputs for one random image: ONNX Runtime without optimisations, or, for a double graph, ONNX's reference."""
    value = model.graph.input[0]
    shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    image = np.random.default_rng(seed).normal(size=shape)
    if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
        return [np.asarray(output) for output in ReferenceEvaluator(model).run(None, {"image": image})]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image.astype(np.float32)})


def difference(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    """The largest difference of any output, relative to the largest value of the output before."""
    worst = 0.0
    for old, new in zip(run(before), run(after), strict=True):
        assert old.shape == new.shape
        assert old.dtype == new.dtype
        worst = max(worst, float(np.abs(old - new).max() / max(np.abs(old).max(), 1e-9)))
    return worst


def ops(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in model.graph.node)


@st.composite
def shuffle_networks(draw: st.DrawFn) -> tuple[Sketch, str]:
    """Units of a shuffle network in random widths, groups and order, as ShuffleNet, ConnectNet and their kin have them."""
    sketch = Sketch(draw(st.integers(0, 9)), height=8, width=6)
    half = draw(st.sampled_from([2, 3, 4, 6]))
    x = sketch.concat(sketch.relu(sketch.conv("image", half)), sketch.conv("image", half, kernel=1))
    for _ in range(draw(st.integers(1, 4))):
        x = sketch.shuffle(x, 8, 6, groups=2)
        if draw(st.booleans()):
            passing, branch = sketch.halves(x)
        else:
            branch, passing = sketch.halves(x)
        if draw(st.booleans()):
            passing = sketch.relu(passing)
        branch = sketch.relu(sketch.conv(branch, half, kernel=1))
        branch = sketch.depthwise(branch)
        branch = sketch.conv(branch, half, kernel=1, bias=draw(st.booleans()))
        x = sketch.concat(passing, branch)
    if draw(st.booleans()):
        x = sketch.depthwise(sketch.shuffle(x, 8, 6))
    if draw(st.booleans()):
        x = sketch.op("MaxPool", [x], 2 * half, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return sketch, sketch.conv(x, draw(st.integers(1, 5)))


@st.composite
def decoders(draw: st.DrawFn) -> tuple[Sketch, str]:
    """A shortcut and an upsampled value, concatenated, through channel-wise nodes into a convolution."""
    sketch = Sketch(draw(st.integers(0, 9)))
    shortcut = sketch.relu(sketch.conv("image", draw(st.integers(1, 9))))
    small = sketch.conv("image", draw(st.integers(2, 9)), strides=[2, 2])
    parts = [shortcut, sketch.resize(small, 12, 10)]
    if draw(st.booleans()):
        parts.append(sketch.conv("image", draw(st.integers(1, 5)), kernel=1))
    x = sketch.concat(*draw(st.permutations(parts)))
    if draw(st.booleans()):
        x = sketch.depthwise(x, bias=draw(st.booleans()))
    if draw(st.booleans()):
        x = sketch.relu(x)
    kernel = draw(st.sampled_from([1, 3]))
    x = sketch.conv(x, draw(st.integers(1, 6)), kernel=kernel, bias=draw(st.booleans()))
    if draw(st.booleans()):  # a separable convolution of few outputs, as heads have it
        x = sketch.relu(sketch.conv(x, draw(st.integers(18, 40)), kernel=1))
        x = sketch.depthwise(x, bias=draw(st.booleans()))
        x = sketch.conv(x, draw(st.integers(1, 2)), kernel=1, bias=draw(st.booleans()))
    return sketch, sketch.op("Sigmoid", [x], sketch.widths[x])
