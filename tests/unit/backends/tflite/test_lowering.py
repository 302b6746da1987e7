"""Graphs of odd shape: values that nobody computes, that nobody reads, that several read."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeseg.core.errors import GraphError

NHWC = (0, 2, 3, 1)


def test_an_output_that_is_an_input(make_model, compare, rand):
    feeds = {"x": rand(1, 3, 4, 5)}
    compare(make_model([helper.make_node("Identity", ["x"], ["y"])], feeds), feeds)
    compare(make_model([helper.make_node("Identity", ["x"], ["y"])], feeds), feeds, orders={"x": NHWC, "y": NHWC})


@pytest.mark.parametrize("value", [np.float32(2.5), np.arange(6, dtype=np.int64).reshape(2, 3)])
def test_an_output_that_is_a_constant(make_model, compare, rand, value):
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Identity", ["c"], ["y"])]
    feeds = {"x": rand(2, 3)}
    compare(make_model(nodes, feeds, {"c": value}, ["r", "y"]), feeds)


def test_one_value_under_two_output_names(make_model, compare, rand):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Identity", ["r"], ["y"]),
        helper.make_node("Transpose", ["r"], ["z"], perm=[0, 2, 3, 1]),
    ]
    feeds = {"x": rand(1, 3, 4, 5)}
    compare(make_model(nodes, feeds, {}, ["y", "z", "r"]), feeds)


def test_an_input_that_nobody_reads_stays_an_input(make_model, compare, rand):
    feeds = {"x": rand(2, 3), "unused": rand(4)}
    lowered = compare(make_model([helper.make_node("Relu", ["x"], ["y"])], feeds), feeds)
    assert list(lowered.builder.inputs) == ["x", "unused"]


def test_shape_arithmetic_is_done_when_the_file_is_written(make_model, compare, rand):
    nodes = [  # what exporters write for view(batch, -1)
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    feeds = {"x": rand(2, 3, 4)}
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    lowered = compare(make_model(nodes, feeds, constants), feeds)
    assert [op.kind for op in lowered.builder.operators] == ["RESHAPE"]


def test_a_branch_with_a_known_condition_is_taken(make_model, compare, rand):
    def branch(op, name):
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])
        return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [output])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("Neg", "a"), else_branch=branch("Abs", "b"))
    feeds = {"x": rand(2, 3)}
    for flag, kind in ((True, "NEG"), (False, "ABS")):
        lowered = compare(make_model([node], feeds, {"flag": np.array(flag)}), feeds)
        assert [op.kind for op in lowered.builder.operators] == [kind]


def test_a_branch_taken_at_run_time_is_refused(make_model, rand):
    from edgeseg.backends.tflite.lowering import lower

    output = helper.make_tensor_value_info("a", TensorProto.FLOAT, [2])
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "b", [], [output])
    node = helper.make_node("If", ["flag"], ["y"], name="choice", then_branch=branch, else_branch=branch)
    with pytest.raises(GraphError, match="If 'choice': its condition is computed at run time"):
        lower(make_model([node], {"x": rand(2), "flag": np.array(True)}))


def test_a_node_of_another_domain_is_refused(make_model, rand):
    from edgeseg.backends.tflite.lowering import lower

    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": rand(2)})
    model.graph.node.append(helper.make_node("FusedConv", ["y"], ["z"], name="fused", domain="com.microsoft"))
    with pytest.raises(GraphError, match=r"FusedConv 'fused': it is of the domain 'com\.microsoft'"):
        lower(model)


def test_functions_of_the_model_are_inlined(compare, rand):
    double = helper.make_function(
        "local", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    graph = helper.make_graph(
        [helper.make_node("Double", ["x"], ["y"], domain="local")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    compare(helper.make_model(graph, functions=[double], opset_imports=opsets, ir_version=10), {"x": rand(2, 3)})


def test_an_integer_constant_beyond_32_bits_is_refused(make_model):
    from edgeseg.backends.tflite.lowering import lower

    feeds = {"x": np.array([1, 2], np.int64)}
    model = make_model([helper.make_node("Add", ["x", "c"], ["y"], name="sum")], feeds, {"c": np.array([2**40])})
    with pytest.raises(GraphError, match="Add 'sum': the constant 1099511627776 does not fit in 32 bits"):
        lower(model)


def test_the_model_is_not_changed(make_model, rand):
    from edgeseg.backends.tflite.lowering import lower

    model = make_model([helper.make_node("Mish", ["x"], ["y"])], {"x": rand(2, 3)})
    before = model.SerializeToString()
    lower(model)
    assert model.SerializeToString() == before


def test_the_same_model_gives_the_same_bytes(make_model, rand):
    from edgeseg.backends.tflite.lowering import lower

    model = make_model([helper.make_node("Softplus", ["x"], ["y"])], {"x": rand(2, 3)})
    assert lower(model).builder.serialize() == lower(model).builder.serialize()


def test_a_form_that_no_lowering_thought_of_is_a_refusal(make_model, rand):
    from edgeseg.backends.tflite.lowering import lower

    node = helper.make_node("Transpose", ["x"], ["y"], name="turn", perm=[0, 5])  # not even valid ONNX
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": rand(2, 3)})
    model.graph.node[0].CopyFrom(node)
    with pytest.raises(GraphError, match=r"Transpose 'turn': the writer does not cover this form of it \(IndexError"):
        lower(model)
