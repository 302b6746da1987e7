"""Each rewrite does what it is for, and leaves alone what it must not touch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from edgeseg.core.marks import INTEGER
from edgeseg.graph import channels, rewriting
from edgeseg.graph.rewriting import Target
from tests.unit.graph.rewrites.sketch import TARGET, Sketch, difference, ops, run, spec


def apply(sketch, output, *names, backend="onnx", precision="fp32", kinds=(), **more):
    """Rewrite, and check that the outputs stay."""
    before = sketch.model(output, kinds=kinds)
    after = rewriting.rewrite(before, spec(output, **more), Target(backend, precision), names)
    assert difference(before, after.model) <= 1e-5
    return after


def shuffle_unit(sketch, x, half):
    passing, branch = sketch.halves(sketch.shuffle(x, 12, 10))
    return sketch.concat(passing, sketch.relu(sketch.conv(branch, half)))


def test_fold_affine_folds_norms_scales_and_shifts_into_a_transposed_convolution():
    sketch = Sketch()
    weight = sketch.constant(sketch.random.normal(size=(3, 4, 2, 2)).astype(np.float32))
    x = sketch.op("ConvTranspose", ["image", weight], 4, strides=[2, 2])
    x = sketch.op("Mul", [x, sketch.constant(np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1, 1))], 4)
    numbers = [sketch.constant(sketch.random.uniform(0.5, 1, 4).astype(np.float32)) for _ in range(4)]
    x = sketch.op("BatchNormalization", [x, *numbers], 4)
    after = apply(sketch, sketch.op("Sub", [x, sketch.constant(np.float32(3))], 4), "fold-affine")
    assert ops(after.model) == {"ConvTranspose": 1}
    assert after.applied == ("fold-affine x3",)


def test_fold_affine_leaves_a_constant_that_is_divided_or_varies_over_the_plane():
    sketch = Sketch()
    x = sketch.op("Div", [sketch.constant(np.float32(2)), sketch.conv("image", 4)], 4)
    x = sketch.op("Add", [sketch.conv(x, 4), sketch.constant(np.ones((1, 1, 12, 10), np.float32))], 4)
    assert apply(sketch, x, "fold-affine").applied == ()


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_pixel_shuffle_takes_a_transposed_convolution_apart(step, bias):
    sketch = Sketch()
    weight = sketch.constant(sketch.random.normal(size=(3, 5, step, step)).astype(np.float32))
    inputs = ["image", weight] + [sketch.constant(sketch.random.normal(size=5).astype(np.float32))] * bias
    after = apply(sketch, sketch.op("ConvTranspose", inputs, 5, strides=[step, step]), "pixel-shuffle")
    assert ops(after.model) == {"Conv": 1, "DepthToSpace": 1}


@settings(max_examples=60, deadline=None)
@given(
    window=st.tuples(st.integers(1, 6), st.integers(1, 6)), step=st.sampled_from([2, 3]), pads=st.tuples(*[st.integers(0, 3)] * 4),
    extra=st.integers(0, 1), bias=st.booleans(), double=st.booleans(), data=st.data(),
)  # fmt: skip
def test_pixel_shuffle_takes_overlapping_windows_apart(window, step, pads, extra, bias, double, data):
    """Any window, border and output padding: the outputs are those of the transposed convolution."""
    sketch = Sketch(
        data.draw(st.integers(0, 9)), height=data.draw(st.integers(1, 6)), width=data.draw(st.integers(1, 5))
    )
    sizes = [
        (size - 1) * step + extra + places - before - behind
        for size, places, before, behind in zip(sketch.image[2:], window, pads[:2], pads[2:], strict=True)
    ]
    assume(min(sizes) > 0)
    weight = sketch.constant(sketch.random.normal(size=(3, 5, *window)).astype(np.float32))
    inputs = ["image", weight] + [sketch.constant(sketch.random.normal(size=5).astype(np.float32))] * bias
    x = sketch.op(
        "ConvTranspose", inputs, 5, strides=[step, step], pads=list(pads), output_padding=[extra, extra],
        kernel_shape=list(window),
    )  # fmt: skip
    before = sketch.model(x, double=double)
    after = rewriting.rewrite(before, spec(x), TARGET, ["pixel-shuffle"])
    kinds = ops(after.model)
    assert kinds["ConvTranspose"] == 0
    assert kinds["DepthToSpace"] == 1
    assert difference(before, after.model) <= (1e-10 if double else 1e-5)


@pytest.mark.parametrize(
    ("window", "pads", "extra", "kernel", "cut"),
    [(4, 1, 0, 2, True), (3, 1, 1, 2, False), (2, 0, 0, 1, False), (3, 1, 0, 2, True)],
)
def test_pixel_shuffle_multiplies_no_more_than_it_has_to(window, pads, extra, kernel, cut):
    """A window of 4 at stride 2 needs 2 x 2 neighbours, not the 3 x 3 that touch its output pixels."""
    sketch = Sketch()
    weight = sketch.constant(sketch.random.normal(size=(3, 5, window, window)).astype(np.float32))
    attributes = {"strides": [2, 2], "pads": [pads] * 4, "output_padding": [extra] * 2}
    after = apply(sketch, sketch.op("ConvTranspose", ["image", weight], 5, **attributes), "pixel-shuffle")
    constants = {tensor.name: tensor.dims for tensor in after.model.graph.initializer}
    [conv] = [node for node in after.model.graph.node if node.op_type == "Conv"]
    assert list(constants[conv.input[1]]) == [20, 3, kernel, kernel]
    assert ops(after.model)["Slice"] == cut


@pytest.mark.parametrize("attributes", [
    {"strides": [1, 1]}, {"strides": [2, 2], "dilations": [2, 2]}, {"strides": [2, 2], "group": 3}, {"strides": [2, 3]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, {"strides": [2, 2], "output_shape": [25, 20]},
])  # fmt: skip
def test_pixel_shuffle_leaves_what_it_has_no_places_for(attributes):
    sketch = Sketch()
    weight = sketch.constant(sketch.random.normal(size=(3, 5, 2, 2)).astype(np.float32))
    after = apply(sketch, sketch.op("ConvTranspose", ["image", weight], 5, **attributes), "pixel-shuffle")
    assert after.applied == ()


def _number(sketch, value, dtype=np.float32):
    return sketch.constant(np.array(value, dtype))


def _swish_by_clip(sketch, x, place):
    """``x * Clip(x + 3, 0, 6) / 6``, divided in front of the product, behind it, or by a factor of the gate."""
    width = sketch.widths[x]
    gate = sketch.op("Add", [_number(sketch, 3.0), x], width)
    gate = sketch.op("Clip", [gate, _number(sketch, 0.0), _number(sketch, 6.0)], width)
    if place == "behind":
        return sketch.op("Div", [sketch.op("Mul", [x, gate], width), _number(sketch, 6.0)], width)
    if place == "factor":
        return sketch.op("Mul", [sketch.op("Mul", [gate, _number(sketch, 1 / 6)], width), x], width)
    return sketch.op("Mul", [x, sketch.op("Div", [gate, _number(sketch, 6.0)], width)], width)


@pytest.mark.parametrize("place", ["front", "behind", "factor"])
def test_hard_swish_is_put_together_wherever_it_is_divided(place):
    sketch = Sketch()
    after = apply(sketch, _swish_by_clip(sketch, sketch.conv("image", 4), place), "hard-swish")
    assert ops(after.model) == {"Conv": 1, "HardSwish": 1}
    by_sigmoid = Sketch()
    x = by_sigmoid.conv("image", 4)
    gate = by_sigmoid.op("HardSigmoid", [x], 4, alpha=1 / 6, beta=0.5)
    after = apply(by_sigmoid, by_sigmoid.op("Mul", [gate, x], 4), "hard-swish")
    assert ops(after.model) == {"Conv": 1, "HardSwish": 1}


def test_hard_swish_puts_gates_of_other_values_together_and_leaves_the_product():
    sketch = Sketch()
    x, other = sketch.conv("image", 4), sketch.conv("image", 4)
    gate = sketch.op("Clip", [sketch.op("Add", [x, _number(sketch, 3.0)], 4), *(_number(sketch, e) for e in (0, 6))], 4)
    gate = sketch.op("Div", [gate, _number(sketch, 6.0)], 4)
    after = apply(sketch, sketch.op("Mul", [other, gate], 4), "hard-swish")
    assert ops(after.model) == {"Conv": 2, "HardSigmoid": 1, "Mul": 1}


@pytest.mark.parametrize(("plus", "low", "high", "divisor"), [
    (2.5, 0.0, 6.0, 6.0), (3.0, -1.0, 6.0, 6.0), (3.0, 0.0, 5.0, 6.0), (3.0, 0.0, 6.0, 5.0),
])  # fmt: skip
def test_hard_swish_leaves_what_is_none(plus, low, high, divisor):
    sketch = Sketch()
    x = sketch.conv("image", 4)
    gate = sketch.op("Add", [x, _number(sketch, plus)], 4)
    gate = sketch.op("Clip", [gate, _number(sketch, low), _number(sketch, high)], 4)
    x = sketch.op("Mul", [x, sketch.op("Div", [gate, _number(sketch, divisor)], 4)], 4)
    assert apply(sketch, x, "hard-swish").applied == ()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(1 / 6, 0.5), (-0.3, 0.1)])
def test_hard_gate_becomes_the_ends_of_the_convolution(bias, alpha, beta):
    sketch = Sketch()
    x = sketch.op("HardSigmoid", [sketch.conv("image", 4, bias=bias)], 4, alpha=alpha, beta=beta)
    after = apply(sketch, x, "hard-gate")
    assert ops(after.model) == {"Conv": 1, "Clip": 1}


def test_hard_gate_leaves_a_convolution_that_others_read():
    sketch = Sketch()
    x = sketch.conv("image", 4)
    gate = sketch.op("HardSigmoid", [x], 4)
    assert apply(sketch, sketch.op("Mul", [x, gate], 4), "hard-gate").applied == ()


@pytest.mark.parametrize("axes", [[2, 3], [-1, 2]])
def test_global_pool_is_the_mean_over_positions(axes):
    sketch = Sketch()
    after = apply(sketch, sketch.op("ReduceMean", ["image"], 3, axes=axes), "global-pool")
    assert ops(after.model) == {"GlobalAveragePool": 1}


@pytest.mark.parametrize("attributes", [{"axes": [1]}, {"axes": [2]}, {"axes": [2, 3], "keepdims": 0}, {}])
def test_global_pool_leaves_other_means(attributes):
    sketch = Sketch()
    assert apply(sketch, sketch.op("ReduceMean", ["image"], 3, **attributes), "global-pool").applied == ()


def _vector_gate(sketch, x, *, product="Gemm", activation="Sigmoid", back="Reshape"):
    """Squeeze-and-excite as linear layers."""
    width = sketch.widths[x]
    y = sketch.op("Flatten", [sketch.op("GlobalAveragePool", [x], width)], width)
    for inside, outside, kind in ((width, 5, "Relu"), (5, width, activation)):
        bias = sketch.constant(sketch.random.normal(size=outside).astype(np.float32))
        if product == "Gemm":
            weight = sketch.constant(sketch.random.normal(size=(outside, inside)).astype(np.float32))
            y = sketch.op("Gemm", [y, weight, bias], outside, transB=1, alpha=0.5, beta=2.0)
        else:
            weight = sketch.constant(sketch.random.normal(size=(inside, outside)).astype(np.float32))
            y = sketch.op("Add", [sketch.op("MatMul", [y, weight], outside), bias], outside)
        y = sketch.op(kind, [y], outside)
    given = [1, width, 1, 1] if back == "Reshape" else [2, 3]
    return sketch.op(back, [y, sketch.constant(np.array(given))], width)


@pytest.mark.parametrize("product", ["Gemm", "MatMul"])
@pytest.mark.parametrize("back", ["Reshape", "Unsqueeze"])
@pytest.mark.parametrize("activation", ["Sigmoid", "HardSigmoid"])
def test_linear_conv_makes_gates_of_vectors_ones_of_images(product, back, activation):
    sketch = Sketch()
    x = sketch.conv("image", 4)
    gate = _vector_gate(sketch, x, product=product, activation=activation, back=back)
    after = apply(sketch, sketch.op("Mul", [x, gate], 4), "linear-conv", "fold-affine")
    kinds = ops(after.model)
    assert kinds == {"Conv": 3, "GlobalAveragePool": 1, "Relu": 1, activation: 1, "Mul": 1}


def test_linear_conv_keeps_vectors_that_others_read():
    sketch = Sketch()
    x = sketch.conv("image", 4)
    gate = _vector_gate(sketch, x)
    hidden = next(node.output[0] for node in sketch.nodes if node.op_type == "Relu")
    before = sketch.model(sketch.op("Mul", [x, gate], 4), hidden, gate)
    after = rewriting.rewrite(before, spec(gate), TARGET, ["linear-conv"])
    assert after.applied == ("linear-conv x2",)
    assert difference(before, after.model) <= 1e-5


def test_linear_conv_leaves_products_of_two_computed_values_and_of_longer_rows():
    sketch = Sketch()
    x = sketch.op("Flatten", [sketch.op("GlobalAveragePool", ["image"], 3)], 3)
    y = sketch.op("MatMul", [x, sketch.op("Transpose", [x], 1, perm=[1, 0])], 1)
    assert apply(sketch, y, "linear-conv").applied == ()
    sketch = Sketch()
    weight = sketch.constant(sketch.random.normal(size=(360, 4)).astype(np.float32))
    assert (
        apply(sketch, sketch.op("Gemm", [sketch.op("Flatten", ["image"], 360), weight], 4), "linear-conv").applied == ()
    )


@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [2, 2], "strides": [2, 2]}, {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 0, 1, 1], "count_include_pad": 1},
])  # fmt: skip
def test_average_conv_is_the_mean_of_a_window(attributes):
    sketch = Sketch()
    after = apply(sketch, sketch.op("AveragePool", ["image"], 3, **attributes), "average-conv")
    assert ops(after.model) == {"Conv": 1}


@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, {"kernel_shape": [6, 6]}, {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
])  # fmt: skip
def test_average_conv_leaves_windows_of_other_counts(attributes):
    sketch = Sketch()
    assert apply(sketch, sketch.op("AveragePool", ["image"], 3, **attributes), "average-conv").applied == ()


def test_merge_convs_merges_where_it_multiplies_less():
    sketch = Sketch()
    x = sketch.conv(sketch.conv("image", 16), 2, kernel=1)
    assert ops(apply(sketch, x, "merge-convs").model) == {"Conv": 1}


def test_merge_convs_leaves_a_bottleneck():
    sketch = Sketch()
    x = sketch.conv(sketch.conv(sketch.conv("image", 32), 2, kernel=1), 32, kernel=1)
    assert ops(apply(sketch, x, "merge-convs").model) == {"Conv": 2}  # the first two only


@pytest.mark.parametrize(("outputs", "bias"), [(1, True), (2, False), (2, True)])
@pytest.mark.parametrize("more", [{}, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, {"pads": [0, 1, 2, 0]}])
def test_narrow_depthwise_puts_the_pointwise_convolution_first(outputs, bias, more):
    sketch = Sketch()
    x = sketch.depthwise(sketch.relu(sketch.conv("image", 40)), bias=bias, **more)
    after = apply(sketch, sketch.conv(x, outputs, kernel=1, bias=bias), "narrow-depthwise")
    assert after.applied == ("narrow-depthwise",)
    weights = {tensor.name: list(tensor.dims) for tensor in after.model.graph.initializer}
    planes, moves, sums = [node for node in after.model.graph.node if node.op_type == "Conv"][1:]
    assert [weights[node.input[1]] for node in (planes, moves, sums)] == [
        [9 * outputs, 40, 1, 1], [9 * outputs, 1, 3, 3], [outputs, 9 * outputs, 1, 1],
    ]  # fmt: skip


def test_narrow_depthwise_sees_to_what_it_must_not_change():
    for build in (
        lambda sketch, x: sketch.conv(sketch.relu(sketch.depthwise(x)), 1, kernel=1),  # not linear in between
        lambda sketch, x: sketch.conv(sketch.depthwise(x, strides=[2, 2]), 1, kernel=1),  # the planes would be larger
        lambda sketch, x: sketch.conv(sketch.depthwise(x), 3, kernel=1),  # 27 planes of 40 channels
        lambda sketch, x: sketch.conv(sketch.depthwise(x), 1, kernel=3),
    ):
        sketch = Sketch()
        assert apply(sketch, build(sketch, sketch.conv("image", 40)), "narrow-depthwise").applied == ()


def test_a_planted_fault_in_the_moves_of_narrow_depthwise_is_seen(monkeypatch):
    from edgeseg.graph.rewrites import narrow_depthwise

    whole = narrow_depthwise._one_tap_each
    monkeypatch.setattr(narrow_depthwise, "_one_tap_each", lambda sides: whole(sides)[::-1])
    sketch = Sketch()
    output = sketch.conv(sketch.depthwise(sketch.conv("image", 40)), 1, kernel=1)
    before = sketch.model(output)
    after = rewriting.rewrite(before, spec(output), TARGET, ["narrow-depthwise"])
    assert difference(before, after.model) > 0.01


def test_commute_resize_moves_a_narrowing_convolution_before_the_upsampling():
    sketch = Sketch()
    x = sketch.conv(sketch.resize(sketch.conv("image", 8), 24, 30), 2, kernel=1)
    after = apply(sketch, x, "commute-resize")
    assert [node.op_type for node in after.model.graph.node] == ["Conv", "Conv", "Resize"]


@pytest.mark.parametrize(("kernel", "size", "width"), [(3, (24, 30), 2), (1, (6, 5), 2), (1, (24, 30), 60)])
def test_commute_resize_leaves_what_would_not_commute_or_cost_more(kernel, size, width):
    sketch = Sketch()
    x = sketch.conv(sketch.resize(sketch.conv("image", 2), *size), width, kernel=kernel)
    assert apply(sketch, x, "commute-resize").applied == ()


def test_split_concat_needs_no_concatenation_any_more():
    sketch = Sketch()
    x = sketch.concat(sketch.conv("image", 5), sketch.conv("image", 6))
    after = apply(sketch, sketch.conv(sketch.depthwise(x), 4, kernel=1), "split-concat")
    assert ops(after.model) == {"Conv": 6, "Add": 1}


def test_split_concat_leaves_a_concatenation_that_others_read_and_one_that_is_narrower_than_the_sum():
    sketch = Sketch()
    x = sketch.concat(sketch.conv("image", 5), sketch.conv("image", 6))
    both = sketch.op("Add", [sketch.conv(x, 1), sketch.op("ReduceSum", [x, sketch.constant(np.array([1]))], 1)], 1)
    assert apply(sketch, both, "split-concat").applied == ()
    sketch = Sketch()
    x = sketch.concat(sketch.conv("image", 2), sketch.conv("image", 2))
    assert apply(sketch, sketch.conv(x, 8), "split-concat").applied == ()


@pytest.mark.parametrize("units", [1, 2, 5])
def test_unshuffle_leaves_no_transpose(units):
    sketch = Sketch()
    x = sketch.concat(sketch.conv("image", 6), sketch.conv("image", 6))
    for _ in range(units):
        x = shuffle_unit(sketch, x, 6)
    after = apply(sketch, sketch.conv(sketch.shuffle(x, 12, 10), 2), "unshuffle")
    assert not {"Transpose", "Reshape", "Split"} & set(ops(after.model))
    assert after.applied == (f"unshuffle x{units + 1}",)


def test_unshuffle_joins_few_pieces_at_a_time_for_tflite():
    sketch = Sketch()
    x = sketch.concat(sketch.conv("image", 16), sketch.conv("image", 16))
    for _ in range(6):
        x = shuffle_unit(sketch, x, 16)
    after = apply(sketch, sketch.conv(x, 2), "unshuffle", backend="tflite")
    assert after.applied
    assert max(len(node.input) for node in after.model.graph.node if node.op_type == "Concat") <= 4


def test_unshuffle_moves_no_weights_of_what_a_flattening_reads():
    sketch = Sketch()
    x = sketch.shuffle(sketch.conv("image", 8), 12, 10)
    flat = sketch.op("Reshape", [x, sketch.constant(np.array([1, 960]))], 1)
    apply(sketch, flat, "unshuffle")


def test_a_wrong_permutation_is_caught(monkeypatch):
    """The check of the tests above sees a rewrite that swaps two channels."""
    sketch = Sketch()
    x = sketch.concat(sketch.conv("image", 6), sketch.conv("image", 6))
    x = sketch.conv(shuffle_unit(sketch, x, 6), 2)
    before = sketch.model(x)
    right = channels.laid_out

    def swapped(data, layout, axis):
        layout = list(layout)
        if axis == 1 and len(layout) > 1:
            layout[0], layout[1] = layout[1], layout[0]
        return right(data, tuple(layout), axis)

    monkeypatch.setattr(channels, "laid_out", swapped)
    after = rewriting.rewrite(before, spec(x), TARGET, ["unshuffle"])
    assert after.applied
    assert difference(before, after.model) > 1e-3


def test_align_pads_to_whole_blocks_before_a_pooling_and_to_lanes_elsewhere():
    sketch = Sketch()
    x = sketch.op("MaxPool", [sketch.relu(sketch.conv("image", 12))], 12, kernel_shape=[2, 2], strides=[2, 2])
    x = sketch.depthwise(sketch.conv(x, 14))
    after = apply(sketch, sketch.conv(x, 3), "align")
    dense = [node for node in after.model.graph.node if node.op_type == "Conv"]
    shapes = {tensor.name: list(tensor.dims) for tensor in after.model.graph.initializer}
    assert [shapes[node.input[1]][0] for node in dense] == [16, 16, 16, 3]


@pytest.mark.parametrize(("marked", "widths"), [(True, [32, 32, 3]), (False, [24, 24, 3])])
def test_align_pads_what_stays_in_float_of_an_integer_network_as_floats_want_it(monkeypatch, marked, widths):
    monkeypatch.setattr("edgeseg.graph.rewrites.align.block_of_this_cpu", lambda: 8)
    sketch = Sketch()
    x = sketch.op("MaxPool", [sketch.relu(sketch.conv("image", 24))], 24, kernel_shape=[2, 2], strides=[2, 2])
    before = sketch.model(sketch.conv(sketch.depthwise(x), 3))
    for node in before.graph.node:
        node.doc_string = INTEGER if marked and node.op_type == "Conv" else ""
    after = rewriting.rewrite(before, spec(before.graph.output[0].name), Target("onnx", "int8", 16), ["align"]).model
    assert difference(before, after) <= 1e-5
    shapes = {tensor.name: list(tensor.dims) for tensor in after.graph.initializer}
    assert [shapes[node.input[1]][0] for node in after.graph.node if node.op_type == "Conv"] == widths


def test_align_leaves_what_would_grow_much_and_what_leaves_the_graph():
    sketch = Sketch()
    assert apply(sketch, sketch.conv(sketch.conv("image", 1), 3), "align").applied == ()
    x = sketch.conv("image", 7)
    before = sketch.model(sketch.conv(x, 3), x)
    assert rewriting.rewrite(before, spec(x), TARGET, ["align"]).applied == ()


def test_separate_resize_interpolates_the_broken_axis_first():
    sketch = Sketch()
    x = sketch.conv(sketch.resize(sketch.conv("image", 16), 96, 77), 2)
    after = apply(sketch, x, "separate-resize")
    sizes = [
        [dim.dim_value for dim in value.type.tensor_type.shape.dim][2:]
        for value in after.model.graph.value_info
        if value.name.startswith("resize")
    ]
    assert [12, 77] in sizes
    assert ops(after.model)["Resize"] == 2


@pytest.mark.parametrize("size", [(96, 80), (95, 77), (96, 9)])
def test_separate_resize_leaves_two_whole_two_broken_and_shrinking_factors(size):
    sketch = Sketch()
    x = sketch.conv(sketch.resize(sketch.conv("image", 16), *size), 2)
    assert apply(sketch, x, "separate-resize").applied == ()


@pytest.mark.parametrize("size", [(24, 20), (17, 31), (6, 7)])
def test_matmul_resize_multiplies_with_the_taps(size):
    sketch = Sketch()
    x = sketch.resize(sketch.conv("image", 2), *size)
    assert ops(apply(sketch, x, "matmul-resize", backend="openvino").model) == {"Conv": 1, "MatMul": 2}


def test_matmul_resize_leaves_other_coordinates_and_many_channels():
    sketch = Sketch()
    x = sketch.resize(sketch.conv("image", 2), 24, 20, coordinate_transformation_mode="align_corners")
    assert apply(sketch, x, "matmul-resize").applied == ()
    assert apply(sketch, sketch.resize(sketch.conv("image", 8), 24, 20), "matmul-resize").applied == ()


def test_difference_head_resizes_one_channel_and_keeps_mask_and_probabilities():
    sketch = Sketch()
    x = sketch.resize(sketch.conv("image", 2), 24, 20)
    before = sketch.model(x)
    after = rewriting.rewrite(before, spec(x), TARGET, ["difference-head"])
    (old,), (new,) = run(before), run(after.model)
    assert np.abs((new[:, 1] - new[:, 0]) - (old[:, 1] - old[:, 0])).max() < 1e-5
    weights = {tensor.name: tensor.dims for tensor in after.model.graph.initializer}
    assert [weights[node.input[1]][0] for node in after.model.graph.node if node.op_type == "Conv"] == [1]


@pytest.mark.parametrize("resize_last", [False, True])
def test_difference_head_makes_a_softmax_a_sigmoid(resize_last):
    sketch = Sketch()
    x = sketch.relu(sketch.conv("image", 2))
    x = sketch.op("Softmax", [x if resize_last else sketch.resize(x, 24, 20)], 2, axis=1)
    x = sketch.resize(x, 24, 20) if resize_last else x
    after = apply(sketch, x, "difference-head", kind="probabilities")
    assert ops(after.model)["Sigmoid"] == 1
    assert "Softmax" not in ops(after.model)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_difference_head_makes_an_argmax_a_comparison(keepdims):
    sketch = Sketch()
    x = sketch.resize(sketch.relu(sketch.conv("image", 2)), 24, 20)
    x = sketch.op("ArgMax", [sketch.op("Softmax", [x], 2, axis=1)], 1, axis=1, keepdims=keepdims)
    after = apply(sketch, x, "difference-head", kind="labels", kinds=[TensorProto.INT64])
    assert ops(after.model)["Greater"] == 1


def test_difference_head_leaves_three_classes_a_second_reader_and_a_mixed_order():
    sketch = Sketch()
    assert apply(sketch, sketch.resize(sketch.conv("image", 3), 24, 20), "difference-head").applied == ()
    sketch = Sketch()
    soft = sketch.op("Softmax", [sketch.conv("image", 2)], 2, axis=1)
    x = sketch.op("ArgMax", [sketch.resize(soft, 24, 20)], 1, axis=1)
    assert apply(sketch, x, "difference-head", kind="labels", kinds=[TensorProto.INT64]).applied == ()
    sketch = Sketch()
    first = sketch.conv("image", 2)
    x = sketch.resize(first, 24, 20)
    before = sketch.model(x, first)
    after = rewriting.rewrite(before, spec(x), TARGET, ["difference-head"])
    assert np.array_equal(run(before)[1], run(after.model)[1])


@pytest.mark.parametrize("backend", ["onnx", "tflite"])
@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (2, 1), (3, 3)])
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 0, 1, 1), (0, 0, 0, 0), (2, 1, 0, 3), (1, 0, 1, 0)])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_group_pixels_is_exact_for_any_window(backend, stride, pads, kernel):
    sketch = Sketch(height=12, width=18)
    x = sketch.conv("image", 4, kernel=kernel, strides=list(stride), pads=list(pads))
    across_alone = backend == "tflite" and stride[1] > 1 and kernel > stride[1]
    both = backend == "onnx" and stride[0] == stride[1] and kernel > stride[0]
    after = apply(sketch, x, "group-pixels", backend=backend, shape=(18, 12))
    assert bool(after.applied) == (across_alone or both)
    if after.applied:
        [conv] = [node for node in after.model.graph.node if node.op_type == "Conv"]
        assert next(a for a in conv.attribute if a.name == "strides").ints[1] == 1


def test_group_pixels_leaves_odd_widths_many_channels_and_what_is_inside():
    for sketch in (Sketch(width=11), Sketch(channels=5), Sketch()):
        x = sketch.op("Relu", ["image"], 3) if sketch.image[1:] == (3, 12, 10) else "image"
        x = sketch.conv(x, 4, strides=[2, 2])
        assert apply(sketch, x, "group-pixels", backend="tflite").applied == ()


def test_taps_in_the_wrong_half_of_a_pair_are_caught():
    sketch = Sketch()
    x = sketch.conv("image", 4, strides=[2, 2])
    before = sketch.model(x)
    after = rewriting.rewrite(before, spec(x), Target("tflite"), ["group-pixels"]).model
    assert difference(before, after) <= 1e-5
    [weight] = [tensor for tensor in after.graph.initializer if tensor.name.endswith(".grouped")]
    weight.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(weight), 3, axis=1), weight.name))
    assert difference(before, after) > 1e-2


def test_flatten_concats_joins_once_what_was_joined_in_steps():
    sketch = Sketch()
    parts = [sketch.conv("image", width) for width in (2, 3, 4)]
    inner = sketch.concat(*parts[:2])
    x = sketch.conv(sketch.concat(sketch.concat(inner, parts[2]), parts[0]), 2)
    assert ops(apply(sketch, x, "flatten-concats").model)["Concat"] == 1


def test_flatten_concats_leaves_what_others_read():
    sketch = Sketch()
    inner = sketch.concat(sketch.conv("image", 2), sketch.conv("image", 3))
    x = sketch.op("Add", [sketch.conv(sketch.concat(inner, "image"), 5), inner], 5)
    assert apply(sketch, x, "flatten-concats").applied == ()


@pytest.mark.parametrize(("width", "marked"), [(32, False), (36, True)])
def test_unrounded_pool_marks_what_leaves_a_rest(width, marked):
    sketch = Sketch()
    x = sketch.op("MaxPool", [sketch.relu(sketch.conv("image", width))], width, kernel_shape=[2, 2])
    x = sketch.conv(sketch.op("MaxPool", [x], width, kernel_shape=[2, 2]), 2)  # behind a pooling: nothing to gain
    assert apply(sketch, x, "unrounded-pool").applied == ()  # between floats nothing is rounded
    after = apply(sketch, x, "unrounded-pool", precision="int8")
    assert [node.doc_string for node in after.model.graph.node if node.op_type == "MaxPool"] == (
        ["unrounded", ""] if marked else ["", ""]
    )
