"""Random small graphs from the operators of segmentation networks, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
from onnx import helper, numpy_helper  # noqa: E402


class Sketch:
    """A graph under construction: nodes, constants and the shapes of the values so far."""

    def __init__(self, draw, shape):
        self.draw, self.nodes, self.constants = draw, [], {}
        self.shapes = {"x": shape}
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))

    def constant(self, *shape, data=None):
        name = f"c{len(self.constants)}"
        array = self.rng.standard_normal(shape).astype(np.float32) if data is None else np.asarray(data)
        self.constants[name] = array
        return name

    def add(self, op, inputs, shape, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        self.shapes[name] = tuple(shape)
        return name

    def images(self):
        return [name for name, shape in self.shapes.items() if len(shape) == 4]


def conv(s, x):
    n, c, h, w = s.shapes[x]
    out, kernel, stride = s.draw(st.sampled_from([2, 4, 6])), s.draw(st.sampled_from([1, 3])), s.draw(st.integers(1, 2))
    group = s.draw(st.sampled_from([g for g in (1, 2, c) if c % g == 0 and out % g == 0] or [1]))
    pad = kernel // 2
    size = [(d + 2 * pad - kernel) // stride + 1 for d in (h, w)]
    weights, bias = s.constant(out, c // group, kernel, kernel), s.constant(out)
    s.add("Conv", [x, weights, bias], (n, out, *size), pads=[pad] * 4, strides=[stride] * 2, group=group)


def activation(s, x):
    s.add(s.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "HardSwish", "Elu", "Softplus"])), [x], s.shapes[x])


def pool(s, x):
    n, c, h, w = s.shapes[x]
    if min(h, w) < 2:
        return
    op = s.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    s.add(op, [x], (n, c, (h - 1) // 2 + 1, (w - 1) // 2 + 1), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)


def resize(s, x):
    n, c, _, _ = s.shapes[x]
    size = s.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    target = s.constant(data=np.array([n, c, *size], np.int64))
    transform = s.draw(st.sampled_from(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]))
    mode = s.draw(st.sampled_from(["linear", "nearest", "cubic"]))
    s.add("Resize", [x, "", "", target], (n, c, *size), mode=mode, coordinate_transformation_mode=transform)


def arithmetic(s, x):
    op = s.draw(st.sampled_from(["Add", "Mul", "Sub", "Max"]))
    mates = [name for name in s.images() if s.shapes[name] == s.shapes[x]]
    mate = s.draw(st.sampled_from([*mates, "constant"]))
    if mate == "constant":
        mate = s.constant(s.shapes[x][1], 1, 1)
    s.add(op, [x, mate], s.shapes[x])


def concat(s, x):
    n, c, h, w = s.shapes[x]
    mates = [name for name in s.images() if (s.shapes[name][0], *s.shapes[name][2:]) == (n, h, w)]
    mate = s.draw(st.sampled_from(mates))
    s.add("Concat", [x, mate], (n, c + s.shapes[mate][1], h, w), axis=1)


def shuffle(s, x):
    n, c, h, w = s.shapes[x]
    if c % 2:
        return
    a = s.add("Reshape", [x, s.constant(data=np.array([n, 2, c // 2, h, w]))], (n, 2, c // 2, h, w))
    b = s.add("Transpose", [a], (n, c // 2, 2, h, w), perm=[0, 2, 1, 3, 4])
    s.add("Reshape", [b, s.constant(data=np.array([n, c, h, w]))], (n, c, h, w))


def attention(s, x):
    n, c, h, w = s.shapes[x]
    flat = s.add("Reshape", [x, s.constant(data=np.array([n, c, h * w]))], (n, c, h * w))
    turned = s.add("Transpose", [flat], (n, h * w, c), perm=[0, 2, 1])
    weights = s.add("Softmax", [s.add("MatMul", [turned, flat], (n, h * w, h * w))], (n, h * w, h * w), axis=-1)
    out = s.add("MatMul", [weights, turned], (n, h * w, c))
    back = s.add("Transpose", [out], (n, c, h * w), perm=[0, 2, 1])
    s.add("Reshape", [back, s.constant(data=np.array([n, c, h, w]))], (n, c, h, w))


def squeeze_and_excite(s, x):
    n, c, _, _ = s.shapes[x]
    mean = s.add("GlobalAveragePool", [x], (n, c, 1, 1))
    gate = s.add("Sigmoid", [s.add("Conv", [mean, s.constant(c, c, 1, 1)], (n, c, 1, 1))], (n, c, 1, 1))
    s.add("Mul", [x, gate], s.shapes[x])


def norm(s, x):
    s.add(
        "InstanceNormalization", [x, s.constant(s.shapes[x][1]), s.constant(s.shapes[x][1])], s.shapes[x], epsilon=0.1
    )


def rotate(s, x):
    n, c, h, w = s.shapes[x]
    s.add("Transpose", [x], (n, c, w, h), perm=[0, 1, 3, 2])


def reduce(s, x):
    n, _, h, w = s.shapes[x]
    s.add("ReduceMean", [x, s.constant(data=np.array([1]))], (n, 1, h, w), keepdims=1)


def pad_and_slice(s, x):
    n, c, h, w = s.shapes[x]
    mode = s.draw(st.sampled_from(["constant", "edge"]))
    wide = s.add("Pad", [x, s.constant(data=np.array([0, 0, 1, 2, 0, 0, 0, 1]))], (n, c, h + 1, w + 3), mode=mode)
    ends = [s.constant(data=np.array(item)) for item in ([0, 1], [h, w + 1], [2, 3])]
    s.add("Slice", [wide, *ends], (n, c, h, w))


STEPS = [
    conv, conv, activation, pool, resize, arithmetic, concat, shuffle, attention, squeeze_and_excite, norm, rotate, reduce,
    pad_and_slice,
]  # fmt: skip


@st.composite
def graphs(draw):
    """A model and its input."""
    shape = (1, draw(st.sampled_from([2, 4, 6])), draw(st.integers(2, 7)), draw(st.integers(2, 7)))
    sketch = Sketch(draw, shape)
    for _ in range(draw(st.integers(1, 7))):
        step = draw(st.sampled_from(STEPS))
        step(sketch, draw(st.sampled_from(sketch.images())))
    outputs = [node.output[0] for node in sketch.nodes[-2:]]
    if not outputs:
        outputs = [sketch.add("Identity", ["x"], shape)]
    graph = helper.make_graph(
        sketch.nodes,
        "random",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sketch.shapes[name]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in sketch.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    nhwc = draw(st.booleans())
    return model, sketch.rng.standard_normal(shape).astype(np.float32), nhwc


def orders_of(model):
    """NHWC for the input and every output of rank 4."""
    values = [*model.graph.input, *model.graph.output]
    return {value.name: (0, 2, 3, 1) for value in values if len(value.type.tensor_type.shape.dim) == 4}


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=graphs())
def test_random_graphs_agree(compare, case):
    model, x, nhwc = case
    compare(model, {"x": x}, tolerance=5e-5, orders=orders_of(model) if nhwc else None)


@pytest.mark.slow
@settings(
    max_examples=1500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=graphs())
def test_many_random_graphs_agree(compare, case):
    model, x, nhwc = case
    compare(model, {"x": x}, tolerance=2e-4, orders=orders_of(model) if nhwc else None)
