"""The Q/DQ graph, run by the runtimes that it is written for."""

import collections

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeseg import backends
from edgeseg.backends import onnx as onnx_backend
from edgeseg.core.spec import ModelSpec
from edgeseg.flows.quantize import SPELLINGS, _at_opset
from edgeseg.graph import rewriting, simplify
from edgeseg.graph.rewriting import Target
from edgeseg.quantization import qdq, ranges, selection
from edgeseg.quantization.placement import place
from edgeseg.quantization.simulation import Simulation, session_of
from tests.unit.graph.rewrites.networks import mobilenet, overlapping, unet
from tests.unit.quantization.running import run_converted


@pytest.fixture
def calibrated(network, inputs):
    """`calibrated(**network)`: float model, placement, what was seen, min-max scales."""

    def make(floating=(), **how):
        model = network(**how)
        placed = place(model, floating=floating)
        seen = ranges.watch(placed, ({"image": x} for x in inputs), len(inputs))
        return model, placed, seen, {g.name: ranges.candidates(g, seen)["minmax"] for g in placed.groups}

    return make


def run(model, inputs):
    session = session_of(model)
    return [session.run(None, {"image": x})[0] for x in inputs]


def apart(found, expected):
    return max(np.abs(a - b).mean() / np.abs(b).max() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("spelling", [
    qdq.Spelling("u8", "pairs"), qdq.Spelling("u8", "integers"), qdq.Spelling("s8", "integers"),
    qdq.Spelling("u8", "float"),
])  # fmt: skip
def test_every_spelling_is_the_same_network(calibrated, inputs, spelling):
    model, placed, seen, scales = calibrated()
    found = run(qdq.write(placed, scales, seen, spelling), inputs)
    assert apart(found, run(model, inputs)) < 0.02
    first = run(qdq.write(placed, scales, seen, qdq.Spelling("u8", "pairs")), inputs)
    assert apart(found, first) < 0.008  # a resize of integers rounds once more


def test_what_is_written(calibrated):
    _, placed, seen, scales = calibrated()
    written = qdq.write(placed, scales, seen, qdq.Spelling("s8", "integers"))
    kinds = collections.Counter(node.op_type for node in written.graph.node)
    assert kinds["Relu"] == 0
    assert kinds["Clip"] == 0  # the range ends before 6
    assert kinds["QuantizeLinear"] == 1 + 7 + 1  # the input, seven convolutions, one sum
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    assert constants["w.stem.q"].dtype == np.int8 if "w.stem.q" in constants else True
    weights = [data for name, data in constants.items() if name.endswith(".weight.q")]
    assert len(weights) == 7
    assert all(data.dtype == np.int8 for data in weights)
    assert all(data.dtype == np.int32 for name, data in constants.items() if name.endswith(".bias.q"))
    # Concat, reshape, transpose and split work on the integers: one scale from the branches to what reads them.
    [concat] = [node for node in written.graph.node if node.op_type == "Concat"]
    assert all(name.endswith(".q") for name in (*concat.input, *concat.output))


def test_a_range_that_passes_the_activation_keeps_it(calibrated, inputs):
    from edgeseg.quantization.scales import scale_of

    model, placed, seen, scales = calibrated()
    group = placed.group_of()["left"].name
    scales[group] = scale_of(-1.0, 9.0)
    written = qdq.write(placed, scales, seen, qdq.Spelling("s8", "integers"))
    kinds = collections.Counter(node.op_type for node in written.graph.node)
    assert kinds["Clip"] == 1
    assert kinds["Relu"] == 1  # of the other branch
    assert apart(run(written, inputs), run(model, inputs)) < 0.03


def test_onnx_runtime_keeps_a_convolution_in_integers_whose_activation_the_range_passes(
    calibrated, inputs, small_spec, tmp_path
):
    """A ReLU or Clip between Conv and QuantizeLinear would take the convolution back to float."""
    from edgeseg.quantization.scales import scale_of

    model, placed, seen, scales = calibrated()
    scales[placed.group_of()["left"].name] = scale_of(-1.0, 9.0)
    written = qdq.write(placed, scales, seen, SPELLINGS["onnx"])
    assert not {"Relu", "Clip"} & {node.op_type for node in written.graph.node}
    assert apart(run(written, inputs), run(model, inputs)) < 0.03
    conversion = onnx_backend.BACKEND.convert(written, small_spec, "int8", tmp_path)
    executed = onnx_backend.BACKEND.executed(tmp_path / conversion.files[0], small_spec, conversion.runtime_options)
    assert executed.integer_share == 1.0


def test_a_convolution_that_went_back_to_float_is_counted_as_float(calibrated, small_spec, tmp_path):
    """Its weights are no constant of the optimised graph but come out of a DequantizeLinear."""
    from edgeseg.quantization.scales import scale_of

    _, placed, seen, scales = calibrated()
    scales[placed.group_of()["left"].name] = scale_of(-1.0, 9.0)
    written = qdq.write(placed, scales, seen, qdq.Spelling("u8", "integers"))  # not as ONNX Runtime likes it
    conversion = onnx_backend.BACKEND.convert(written, small_spec, "int8", tmp_path)
    executed = onnx_backend.BACKEND.executed(tmp_path / conversion.files[0], small_spec, conversion.runtime_options)
    assert executed.macs == placed.macs
    assert executed.integer_share < 0.99


@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
@pytest.mark.parametrize("floating", [(), ("wide.conv", "small"), ("deep",)])
def test_runtimes_execute_integers(calibrated, inputs, small_spec, need, tmp_path, name, floating):
    backend = backends.load(name)
    need(backend.package, what=name)
    model, placed, seen, scales = calibrated(floating=floating)
    written = qdq.write(placed, scales, seen, SPELLINGS[name])
    conversion = backend.convert(written, small_spec, "int8", tmp_path)
    file = tmp_path / conversion.files[0]
    found = run_converted(backend, conversion, tmp_path, inputs)
    assert apart(found, run(model, inputs)) < 0.02
    executed = backend.executed(file, conversion.spec, conversion.runtime_options)
    whole = sum(layer.macs for layer in place(model).layers)
    integers = sum(layer.macs for layer in placed.layers)
    assert executed.integer_share == pytest.approx(integers / whole, abs=1e-6)


@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
@pytest.mark.parametrize("build", [unet, overlapping, mobilenet])
def test_other_networks_run_in_integers(name, build, need, tmp_path):
    """U-Nets with transposed convolutions, and inverted residuals with squeeze-and-excite and hard swish."""
    backend = backends.load(name)
    need(backend.package, what=name)
    raw, output = build(48, 64)
    spec = ModelSpec(build.__name__, 64, 48, "image", output)
    cleaned = _at_opset(simplify.simplify(raw)[0])
    model = rewriting.rewrite(cleaned, spec, Target(rewriting.ANY, "int8")).model
    placed = place(model)
    pictures = [np.random.default_rng(seed).normal(size=spec.input_shape).astype(np.float32) for seed in range(4)]
    seen = ranges.watch(placed, ({"image": x} for x in pictures), len(pictures))
    scales = {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}
    conversion = backend.convert(qdq.write(placed, scales, seen, SPELLINGS[name]), spec, "int8", tmp_path)
    file = tmp_path / conversion.files[0]
    executed = backend.executed(file, conversion.spec, conversion.runtime_options)
    assert executed.integer_share == 1.0
    scores = run_converted(backend, conversion, tmp_path, pictures)
    assert apart(scores, run(raw, pictures)) < 0.02


def test_tflite_has_integer_kernels_and_nothing_between(calibrated, small_spec, need):
    need("ai_edge_litert", what="tflite")
    from edgeseg.backends.tflite.layout import NHWC
    from edgeseg.backends.tflite.lowering import lower

    _, placed, seen, scales = calibrated()
    lowered = lower(qdq.write(placed, scales, seen, SPELLINGS["tflite"]), {"image": NHWC, "scores": NHWC})
    kinds = collections.Counter(op.kind for op in lowered.builder.operators)
    assert kinds["QUANTIZE"] == 1
    assert kinds["DEQUANTIZE"] == 1
    assert not {"MINIMUM", "MAXIMUM", "RELU", "CAST"} & set(kinds)
    tensors = lowered.builder.tensors
    for op in lowered.builder.operators:
        if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            assert tensors[op.inputs[1]].dtype == np.int8
            assert tensors[op.inputs[2]].dtype == np.int32
            assert len(tensors[op.inputs[1]].quantization.scale) == len(tensors[op.inputs[2]].data)
        if op.kind == "CONCATENATION":
            assert len({tensors[index].quantization for index in (*op.inputs, *op.outputs)}) == 1


def flips(expected):
    def judge(outputs):
        return float(np.mean([((a[0, 1] > a[0, 0]) != e).mean() for a, e in zip(outputs, expected, strict=True)]))

    return judge


def test_the_simulation_is_what_the_runtime_does(calibrated, inputs):
    model, placed, seen, scales = calibrated()
    simulation = Simulation(placed, seen)
    simulated = [simulation.run({"image": x}, scales, frozenset()) for x in inputs]
    real = run(qdq.write(placed, scales, seen), inputs)
    assert apart(simulated, real) < 0.008
    everything = frozenset(group.name for group in placed.groups)
    assert apart([simulation.run({"image": x}, scales, everything) for x in inputs], run(model, inputs)) < 1e-5


def test_a_channel_200_times_the_others_is_found_and_left_in_float(calibrated, inputs):
    model, placed, seen, scales = calibrated(head_channel=2000.0)
    expected = [out[0, 1] > out[0, 0] for out in run(model, inputs)]
    assert 0.02 < np.mean(expected) < 0.98
    judge = flips(expected)
    simulation, feeds = Simulation(placed, seen), [{"image": x} for x in inputs]
    bad = judge([simulation.run(feed, scales, frozenset()) for feed in feeds])
    effects = selection.rank(placed, simulation, scales, feeds, judge)
    assert effects[0].part == "wide"
    assert set(effects[0].layers) == {"wide.conv", "small"}

    def with_floats(parts):
        return judge([simulation.run(feed, scales, parts) for feed in feeds])

    found = selection.keep_in_float(with_floats, effects, bad / 2)
    parts, error = found.parts, found.error
    assert parts == {"wide"}
    assert error < bad / 2
    assert found.reached
    final = place(model, floating=selection.layers_of(placed, parts))
    mended = qdq.write(final, selection.carried(scales, placed, final), seen, qdq.Spelling("u8", "pairs"))
    assert judge(run(mended, inputs)) == pytest.approx(error, abs=0.003)


def test_the_simulation_leaves_layers_in_float_as_the_written_graph_does(calibrated, inputs):
    names = ("stem.conv", "left.conv", "right.conv")
    model, placed, seen, scales = calibrated()
    simulation = Simulation(placed, seen)
    simulated = [simulation.run({"image": x}, scales, frozenset(), frozenset(names)) for x in inputs]
    final = place(model, floating=names)
    real = run(qdq.write(final, selection.carried(scales, placed, final), seen, qdq.Spelling("u8", "pairs")), inputs)
    assert apart(simulated, real) < 0.004
    assert apart(simulated, [simulation.run({"image": x}, scales, frozenset()) for x in inputs]) > 0.001


def first(placed, errors, max_share=1.0):
    """`first_in_float` of a judge that knows the error by the number of layers in float."""
    return selection.first_in_float(placed, lambda layers: errors[len(layers)], max_share)[0]


def test_first_layers_stay_in_float_where_little_is_rounded_behind_them(network):
    placed = place(network())
    order = [layer.name for layer in sorted(placed.layers, key=lambda layer: layer.node)]
    borders = {len(layers): border for layers, _, border in selection._prefixes(placed, 1.0)}
    assert borders[1] == 8 * 16 * 24, "the stem's result"
    assert borders[2] == 8 * 16 * 24 + 8 * 8 * 12, (
        "the right branch reads that, too, and what the left one makes is joined"
    )
    assert borders[4] == borders[5] == 8 * 8 * 12 == min(borders.values())
    errors = [1.0, *([0.01] * 7)]
    assert first(placed, errors) == set(order[:4]), "the fewest layers of the narrow borders"
    errors[4] = 0.02
    assert first(placed, errors) == set(order[:5]), "the error decides between them"


def test_first_layers_stay_in_float_only_if_they_gain_more_than_they_cost(network):
    placed = place(network())
    costs = {len(layers): cost for layers, cost, _ in selection._prefixes(placed, 1.0)}
    assert first(placed, [1.0] * 8) == frozenset()
    assert first(placed, [1.0] + [1 - 0.9 * costs.get(count, 1.0) for count in range(1, 8)]) == frozenset()
    assert first(placed, [1.0] + [1 - 1.1 * costs.get(count, 0.9) for count in range(1, 8)]) != frozenset()
    assert first(placed, [1.0, *([0.01] * 7)], max_share=0.9 * costs[1]) == frozenset(), "none is allowed"


def test_ranges_are_chosen_by_the_mask(calibrated, inputs):
    model, placed, seen, _ = calibrated()
    expected = [out[0, 1] > out[0, 0] for out in run(model, inputs)]
    judge, feeds = flips(expected), [{"image": x} for x in inputs]
    chosen = selection.choose_ranges(placed, seen, Simulation(placed, seen), feeds, judge, trials=6)
    assert set(chosen.tried) == set(ranges.METHODS)
    assert chosen.error <= min(chosen.tried.values())
    only = selection.choose_ranges(placed, seen, Simulation(placed, seen), feeds, judge, only="p99.9")
    assert set(only.methods.values()) == {"p99.9"}


def test_watching_keeps_as_much_for_many_pictures_as_for_few(network, inputs):
    placed = place(network())
    few = ranges.watch(placed, ({"image": x} for x in inputs[:2]), 2)
    many = ranges.watch(placed, ({"image": x} for x in inputs * 40), 320)
    for name, seen in many.items():
        assert seen.values.size <= ranges.SAMPLES * 1.1
        assert seen.low <= few[name].low
        assert seen.high >= few[name].high


def test_onnx_runtime_profile_counts_float_as_float(network, small_spec, tmp_path):
    onnx.save(network(), tmp_path / "model.onnx")
    executed = onnx_backend.BACKEND.executed(tmp_path / "model.onnx", small_spec, {})
    assert executed.integer_macs == 0
    assert executed.macs == place(network()).macs
