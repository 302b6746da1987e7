"""Sums, products, gates and means between integer layers: which are found, and that all runtimes compute them in integers."""

import collections
import itertools
import math

import numpy as np
import pytest

from edgeseg import backends
from edgeseg.core.spec import ModelSpec
from edgeseg.flows.quantize import SPELLINGS, _at_opset
from edgeseg.graph import rewriting
from edgeseg.graph.rewriting import Target
from edgeseg.quantization import qdq, ranges
from edgeseg.quantization.parts import FUNCTIONS
from edgeseg.quantization.placement import SIGMOID, place
from edgeseg.quantization.scales import Scale, scale_from, scale_of
from edgeseg.quantization.simulation import Simulation, session_of
from tests.unit.graph.rewrites.sketch import Sketch
from tests.unit.quantization.running import run_converted

SIZE = (20, 24)


def gated(kind="HardSwish", *, gate="Clip", behind="conv"):
    """Convolution, activation, squeeze-and-excite, residual sum, convolution; returns the model and its output's name."""
    sketch = Sketch(4, height=SIZE[0], width=SIZE[1])
    x = shortcut = sketch.relu(sketch.conv("image", 8))
    if behind == "sum":  # what the activation reads is no convolution's own
        x = sketch.op("Add", [sketch.conv(x, 8), x], 8)
    else:
        x = sketch.conv(x, 8)
    if kind == "Silu":
        x = sketch.op("Mul", [x, sketch.op("Sigmoid", [x], 8)], 8)
    else:
        x = sketch.op(kind, [x], 8)
    x = sketch.depthwise(x)
    squeezed = sketch.conv(sketch.op("GlobalAveragePool", [x], 8), 8, kernel=1)
    if gate == "Clip":
        ends = [sketch.constant(np.float32(end)) for end in (0, 1)]
        squeezed = sketch.op("Clip", [squeezed, *ends], 8)
    else:
        squeezed = sketch.op("Sigmoid", [squeezed], 8)
    x = sketch.op("Mul", [x, squeezed], 8)
    x = sketch.op("Add", [sketch.conv(x, 8, kernel=1), shortcut], 8)
    x = sketch.conv(x, 2, kernel=1)
    return sketch.model(x), x


def calibrated(model, count=4):
    placed = place(model)
    pictures = [np.random.default_rng(seed).normal(size=(1, 3, *SIZE)).astype(np.float32) for seed in range(count)]
    seen = ranges.watch(placed, ({"image": x} for x in pictures), count)
    return placed, seen, {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}, pictures


def run(model, pictures):
    session = session_of(model)
    return [session.run(None, {"image": x})[0] for x in pictures]


def apart(found, expected):
    return max(np.abs(a - b).mean() / np.abs(b).max() for a, b in zip(found, expected, strict=True))


def test_functions_between_integers_are_found():
    placed = place(gated()[0])
    kinds = collections.Counter(one.kind for one in placed.functions)
    assert kinds == {"HardSwish": 1, "GlobalAveragePool": 1, "Mul": 1, "Add": 1}
    model, output = gated("Silu", gate="Sigmoid")
    assert collections.Counter(one.kind for one in place(model).functions) == {
        "Sigmoid": 2, "Mul": 2, "GlobalAveragePool": 1, "Add": 1,
    }  # fmt: skip
    assert output not in {one.result for one in place(model).functions}


def test_functions_whose_result_nobody_wants_in_integers_stay_in_float():
    sketch = Sketch(1)
    x = sketch.conv(sketch.relu(sketch.conv("image", 4)), 4)
    x = sketch.op("HardSwish", [x], 4)
    x = sketch.op("Add", [x, x], 4)
    assert place(sketch.model(x)).functions == ()
    placed = place(sketch.model(sketch.conv(x, 2)))
    assert [one.kind for one in placed.functions] == ["HardSwish", "Add"], "a chain of them is found whole"


def test_a_product_with_what_is_made_in_float_stays_in_float():
    sketch = Sketch(1)
    x = sketch.conv("image", 4)
    loose = sketch.op("Softplus", [sketch.conv("image", 4)], 4)
    x = sketch.conv(sketch.op("Mul", [x, loose], 4), 2)
    assert place(sketch.model(x)).functions == ()


def test_a_product_of_gates_needs_one_of_them_made_in_integers():
    sketch = Sketch(1)
    rows = sketch.op("ReduceMax", [sketch.op("Softplus", [sketch.conv("image", 4)], 4)], 4, axes=[3])
    columns = sketch.op("ReduceMax", [sketch.op("Softplus", [sketch.conv("image", 4)], 4)], 4, axes=[2])
    placed = place(sketch.model(sketch.conv(sketch.op("Mul", [rows, columns], 4), 2)))
    assert placed.functions == ()


def test_what_is_an_output_as_well_is_not_rounded():
    sketch = Sketch(1)
    x = sketch.op("HardSwish", [sketch.conv("image", 4)], 4)
    placed = place(sketch.model(sketch.conv(x, 2), x))
    assert placed.functions == ()


def test_the_sigmoid_has_the_one_scale_that_kernels_write():
    placed, seen, scales, _ = calibrated(gated("Silu", gate="Sigmoid")[0])
    [first, second] = [one.result for one in placed.functions if one.kind == "Sigmoid"]
    group = placed.group_of()
    assert group[first].fixed == group[second].fixed == SIGMOID
    assert scales[first] == SIGMOID
    assert set(ranges.candidates(group[first], seen).values()) == {SIGMOID}


def test_a_sigmoid_that_is_moved_stays_in_float():
    """A Concat would tie its scale to another tensor's."""
    sketch = Sketch(1)
    x = sketch.conv("image", 4)
    x = sketch.concat(sketch.op("Sigmoid", [x], 4), sketch.relu(sketch.conv("image", 4)))
    placed = place(sketch.model(sketch.conv(x, 2)))
    assert placed.functions == ()
    assert all(group.fixed is None for group in placed.groups)


def test_what_only_hard_swishes_read_has_no_steps_below_their_zero():
    placed, _, scales, _ = calibrated(gated()[0])
    [swish] = [one for one in placed.functions if one.kind == "HardSwish"]
    group = placed.group_of()[swish.inputs[0]]
    assert group.swish
    assert group.floor == -3.0
    assert scales[group.name].ends[0] == pytest.approx(-3.0, abs=1e-5)
    for low, high in ((-50.0, 40.0), (-50.0, 2.0), (-1.0, 9.0), (0.5, 1.0)):
        watched = {group.name: ranges.Watched(low, high, np.linspace(low, high, 1000), np.empty(0))}
        found = ranges.candidates(group, watched)
        assert all(scale.ends[0] == pytest.approx(-3.0, abs=1e-5) for scale in found.values())
        assert found["minmax"].ends[1] >= high


def test_scales_that_begin_where_they_are_told_to():
    for high in (0.0, 0.1, 2.9, 3.0, 6.0, 40.0, 700.0):
        scale = scale_from(-3.0, high)
        assert scale.ends[0] == pytest.approx(-3.0, abs=1e-5)
        assert scale.ends[1] >= high - 1e-4
    assert scale_from(-3.0, 1e4) == scale_of(-3.0, 1e4), "there is no step that begins there"


CASES = [
    {}, {"behind": "sum"}, {"gate": "Sigmoid"}, {"kind": "Silu"}, {"kind": "Silu", "gate": "Sigmoid", "behind": "sum"},
]  # fmt: skip


@pytest.mark.parametrize("how", CASES, ids=str)
@pytest.mark.parametrize("functions", [FUNCTIONS, ("Add",), ()], ids=["all", "sums", "none"])
def test_every_spelling_is_the_same_network(how, functions):
    model, _ = gated(**how)
    placed, seen, scales, pictures = calibrated(model)
    expected = run(model, pictures)
    for activations in ("u8", "s8"):
        for ways in ({}, {"tiled": True}, {"within": True}, {"swish": "clip"}):
            spelling = qdq.Spelling(activations, "integers", functions=functions, **ways)
            written = qdq.write(placed, scales, seen, spelling)
            assert apart(run(written, pictures), expected) < 0.01, ways
    simulation = Simulation(placed, seen)
    simulated = [simulation.run({"image": x}, scales, frozenset()) for x in pictures]
    assert apart(run(written, pictures), simulated) < 0.006


def test_a_hard_swish_is_exact_but_for_its_roundings():
    """Over the whole range: ``x`` is rounded once, the gate and the product once more."""
    sketch = Sketch(0, channels=1, height=1, width=512)
    one = sketch.constant(np.ones((1, 1, 1, 1), np.float32))
    x = sketch.op("HardSwish", [sketch.op("Conv", ["image", one], 1)], 1)
    y = sketch.op("Conv", [x, one], 1)
    placed = place(sketch.model(y))
    image = np.linspace(-6, 9, 512, dtype=np.float32).reshape(1, 1, 1, 512)
    scales = {group.name: scale_of(-6.0, 9.0) for group in placed.groups}
    scales[x] = scales[y] = scale_of(-0.375, 9.0)
    swished = placed.group_of()[placed.functions[0].inputs[0]]
    scales[swished.name] = scale_from(-3.0, 9.0)
    for activations, form in itertools.product(("u8", "s8"), ("sum", "clip")):
        written = qdq.write(placed, scales, {}, qdq.Spelling(activations, "integers", swish=form))
        kinds = collections.Counter(node.op_type for node in written.graph.node)
        assert (kinds["Add"], kinds["Clip"]) == ((1, 0) if form == "sum" else (0, 1))
        [found] = run(written, [image])
        expected = image * np.clip(image + 3, 0, 6) / 6
        steps = 1.5 * scales[swished.name].step + scales[x].step + scales["image"].step + 9 / 255 / 2
        assert np.abs(found - expected).max() <= steps
        assert np.abs(found - expected).mean() <= steps / 3
        assert (found[image < -3.1] == 0).all()


@pytest.mark.parametrize("how", CASES, ids=str)
@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
def test_runtimes_execute_them(how, name, need, tmp_path):
    backend = backends.load(name)
    need(backend.package, what=name)
    model, output = gated(**how)
    spec = ModelSpec("gated", SIZE[1], SIZE[0], "image", output)
    placed, seen, scales, pictures = calibrated(model)
    written = qdq.write(placed, scales, seen, SPELLINGS[name])
    conversion = backend.convert(written, spec, "int8", tmp_path)
    file = tmp_path / conversion.files[0]
    scores = run_converted(backend, conversion, tmp_path, pictures)
    assert apart(scores, run(model, pictures)) < 0.01
    assert backend.executed(file, conversion.spec, conversion.runtime_options).integer_share == pytest.approx(1.0)


@pytest.mark.parametrize("how", CASES, ids=str)
def test_tflite_goes_to_float_nowhere_in_between(how, need):
    need("ai_edge_litert", what="tflite")
    from edgeseg.backends.tflite.layout import NHWC
    from edgeseg.backends.tflite.lowering import lower

    model, output = gated(**how)
    placed, seen, scales, _ = calibrated(model)
    lowered = lower(qdq.write(placed, scales, seen, SPELLINGS["tflite"]), {"image": NHWC, output: NHWC})
    kinds = collections.Counter(op.kind for op in lowered.builder.operators)
    assert (kinds["QUANTIZE"], kinds["DEQUANTIZE"]) == (1, 1)
    assert not {"HARD_SWISH", "RELU6", "MINIMUM", "MAXIMUM", "TRANSPOSE"} & set(kinds)


@pytest.mark.parametrize("axes", [(2,), (2, 3), (1,)], ids=["columns", "gate", "plane"])
@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
def test_products_broadcast_in_every_runtime(axes, name, need, tmp_path):
    """Gates of channels, masks of positions (each pixel one number), and what one alone has the shape of."""
    backend = backends.load(name)
    need(backend.package, what=name)
    sketch = Sketch(6, height=SIZE[0], width=SIZE[1])
    x = sketch.relu(sketch.conv("image", 8))
    if axes == (1,):
        gate = sketch.relu(sketch.conv(x, 1))
    else:
        kernel = [SIZE[0] if 2 in axes else 1, SIZE[1] if 3 in axes else 1]
        gate = sketch.op("MaxPool", [x], 8, kernel_shape=kernel)
    output = sketch.conv(sketch.op("Mul", [gate, x], 8), 2, kernel=1)
    model, spec = sketch.model(output), ModelSpec("broadcast", SIZE[1], SIZE[0], "image", output)
    placed, seen, scales, pictures = calibrated(model)
    assert [one.kind for one in placed.functions] == ["Mul"]
    conversion = backend.convert(qdq.write(placed, scales, seen, SPELLINGS[name]), spec, "int8", tmp_path)
    scores = run_converted(backend, conversion, tmp_path, pictures)
    assert apart(scores, run(model, pictures)) < 0.01


def test_onnx_runtime_has_an_integer_kernel_for_each(tmp_path):
    import onnx
    import onnxruntime as ort

    model, _ = gated("Silu", gate="Sigmoid")
    placed, seen, scales, _ = calibrated(model)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    written = qdq.write(placed, scales, seen, SPELLINGS["onnx"])
    ort.InferenceSession(written.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert {"QLinearSigmoid", "QLinearMul", "QLinearAdd", "QLinearGlobalAveragePool"} <= set(kinds)
    assert not {"Sigmoid", "Mul", "Add", "GlobalAveragePool", "Conv"} & set(kinds)


def test_a_planted_fault_in_the_swish_is_seen(monkeypatch):
    """The root of 6 is what makes the product right; with another factor the network is another one."""
    model, _ = gated()
    placed, seen, scales, pictures = calibrated(model)
    monkeypatch.setattr(qdq, "ROOT", 1.3 * qdq.ROOT)
    wrong = qdq.write(placed, scales, seen, qdq.Spelling("u8", "integers"))
    assert apart(run(wrong, pictures), run(model, pictures)) > 0.01


def test_scales_of_groups_without_a_floor_are_as_before():
    group = place(gated()[0]).groups[0]
    assert group.floor == -math.inf
    seen = {group.name: ranges.Watched(-2.0, 6.0, np.linspace(-2, 6, 100), np.empty(0))}
    assert ranges.candidates(group, seen)["minmax"] == Scale(float(np.float32(8 / 255)), 64)


def test_what_an_older_exporter_spells_out_is_found_and_put_together():
    """Opset 13 has no HardSwish and means over axes: ``x * Clip(x + 3, 0, 6) / 6``, ReduceMean, and a gate by a hard sigmoid."""
    sketch = Sketch(3, height=SIZE[0], width=SIZE[1])
    three, zero, six = (sketch.constant(np.float32(value)) for value in (3, 0, 6))
    x = sketch.conv("image", 8)
    gate = sketch.op("Clip", [sketch.op("Add", [x, three], 8), zero, six], 8)
    x = sketch.op("Div", [sketch.op("Mul", [x, gate], 8), six], 8)
    x = sketch.depthwise(x)
    squeezed = sketch.conv(sketch.op("ReduceMean", [x], 8, axes=[2, 3], keepdims=1), 8, kernel=1)
    squeezed = sketch.op("HardSigmoid", [squeezed], 8, alpha=1 / 6, beta=0.5)
    output = sketch.conv(sketch.op("Mul", [x, squeezed], 8), 2, kernel=1)
    model = sketch.model(output)
    model.opset_import[0].version = 13
    spec = ModelSpec("spelled", SIZE[1], SIZE[0], "image", output)
    found = rewriting.rewrite(_at_opset(model), spec, Target(rewriting.ANY, "int8"))
    assert {"hard-swish", "global-pool", "hard-gate"} <= set(found.applied)
    kinds = collections.Counter(one.kind for one in place(found.model).functions)
    assert kinds == {"HardSwish": 1, "GlobalAveragePool": 1, "Mul": 1}
    image = np.random.default_rng(0).normal(size=(1, 3, *SIZE)).astype(np.float32)
    assert apart(run(found.model, [image]), run(model, [image])) < 1e-6


@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
def test_gates_by_linear_layers_run_in_integers(name, need, tmp_path):
    """SENet's form: pooling, flattening, two matrix products, a sigmoid and a reshape."""
    backend = backends.load(name)
    need(backend.package, what=name)
    sketch = Sketch(5, height=SIZE[0], width=SIZE[1])
    x = sketch.relu(sketch.conv("image", 8))
    y = sketch.op("Flatten", [sketch.op("GlobalAveragePool", [x], 8)], 8)
    for kind in ("Relu", "Sigmoid"):
        weight, bias = (
            sketch.constant(sketch.random.normal(size=shape).astype(np.float32)) for shape in ((8, 8), (8,))
        )
        y = sketch.op(kind, [sketch.op("Gemm", [y, weight, bias], 8, transB=1)], 8)
    y = sketch.op("Reshape", [y, sketch.constant(np.array([1, 8, 1, 1]))], 8)
    output = sketch.conv(sketch.op("Mul", [x, y], 8), 2, kernel=1)
    raw, spec = sketch.model(output), ModelSpec("linear", SIZE[1], SIZE[0], "image", output)
    model = rewriting.rewrite(raw, spec, Target(rewriting.ANY, "int8")).model
    placed, seen, scales, pictures = calibrated(model)
    assert {one.kind for one in placed.functions} == {"GlobalAveragePool", "Sigmoid", "Mul"}
    conversion = backend.convert(qdq.write(placed, scales, seen, SPELLINGS[name]), spec, "int8", tmp_path)
    file = tmp_path / conversion.files[0]
    assert backend.executed(file, conversion.spec, conversion.runtime_options).integer_share == pytest.approx(1.0)
    scores = run_converted(backend, conversion, tmp_path, pictures)
    assert apart(scores, run(raw, pictures)) < 0.01
