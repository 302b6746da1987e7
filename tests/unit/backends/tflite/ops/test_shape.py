"""Moving and choosing elements, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import GraphError

I64 = np.int64


@pytest.mark.parametrize(
    ("shape", "new"),
    [((2, 3, 4), (6, 4)), ((1, 6, 4, 5), (1, 2, 3, 4, 5)), ((2, 3, 4), (-1,)), ((2, 3, 4), (0, -1)), ((4,), (2, 1, 2))],
)
def test_reshape(check_node, rand, shape, new):
    check_node("Reshape", rand(*shape), np.array(new, I64))


@pytest.mark.parametrize("permutation", [(0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0), (0, 1, 3, 2)])
def test_transpose(check_node, rand, permutation):
    check_node("Transpose", rand(2, 3, 4, 5), perm=permutation)


def test_transpose_of_six_dimensions_that_move_in_pairs(check_node, rand):
    check_node("Transpose", rand(2, 3, 2, 4, 2, 3), perm=(0, 1, 4, 5, 2, 3))


def test_transpose_of_too_many_dimensions_is_refused(check_node, rand):
    with pytest.raises(GraphError, match="6 dimensions"):
        check_node("Transpose", rand(2, 3, 2, 3, 2, 3), perm=(5, 4, 3, 2, 1, 0))


@pytest.mark.parametrize("groups", [2, 3])
def test_a_channel_shuffle_is_one_transpose(make_model, compare, rand, groups):
    from onnx import helper

    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["b", "join"], ["y"]),
    ]
    feeds = {"x": rand(1, 12, 5, 6)}
    constants = {"split": np.array([1, groups, 12 // groups, 5, 6]), "join": np.array([1, 12, 5, 6])}
    orders = {"x": (0, 2, 3, 1), "y": (0, 2, 3, 1)}
    lowered = compare(make_model(nodes, feeds, constants), feeds, orders=orders)
    kinds = [op.kind for op in lowered.builder.operators]
    assert kinds.count("TRANSPOSE") == 1
    assert kinds.count("RESHAPE") <= 2


def test_flatten_squeeze_unsqueeze(check_node, rand):
    check_node("Flatten", rand(2, 3, 4, 5), axis=2)
    check_node("Squeeze", rand(1, 3, 1, 5), np.array([0, 2], I64))
    check_node("Squeeze", rand(1, 3, 1, 5))
    check_node("Squeeze", rand(1, 1))
    check_node("Unsqueeze", rand(3, 5), np.array([0, -1], I64))
    check_node("Squeeze", rand(1, 3, 5), axes=[0], opset=11)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_concat(check_node, rand, axis):
    shapes = [[2, 3, 4, 5], [2, 3, 4, 5], [2, 3, 4, 5]]
    shapes[1][axis] = 1
    check_node("Concat", *(rand(*shape) for shape in shapes), data=3, axis=axis)
    check_node("Concat", *(rand(*shape) for shape in shapes), data=2, axis=axis)


def test_split(check_node, rand):
    check_node("Split", rand(2, 6, 4), outputs=3, axis=1, num_outputs=3)
    check_node("Split", rand(2, 6, 4), np.array([1, 5], I64), outputs=2, axis=1)
    check_node("Split", rand(2, 6, 4), outputs=2, axis=1, split=[2, 4], opset=11)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [2], [1]),
        ([0, 1], [2**62, -1], [0, 3], [1, 1]),
        ([0], [2**62], [3], [2]),
        ([-1], [-(2**62)], [3], [-1]),
        ([4, 3], [0, -(2**62)], [3, 2], [-2, -1]),
        ([-3], [2**62], [1], [1]),
    ],
)
def test_slice(check_node, rand, starts, ends, axes, steps):
    check_node("Slice", rand(2, 3, 4, 5), *(np.array(item, I64) for item in (starts, ends, axes, steps)))


def test_an_empty_result_is_refused(check_node, rand):
    with pytest.raises(GraphError, match="Slice 'the_node': its result is empty"):
        check_node("Slice", rand(2, 3), *(np.array([item], I64) for item in (2, 1, 1)))


@pytest.mark.parametrize("indices", [2, -1, [0, 2], [[0, 1], [-1, 2]]])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(check_node, rand, indices, axis):
    check_node("Gather", rand(3, 4, 5), np.array(indices, I64), axis=axis)
    check_node("Gather", rand(3, 4, 5), np.array(indices, I64), axis=axis, data=2)


def test_an_index_outside_is_refused(check_node, rand):
    from edgeseg.backends.tflite.lowering import Refused, lower

    assert Refused is not None
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["y"], name="pick")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [helper.make_tensor("i", TensorProto.INT64, [1], [7])],
    )
    with pytest.raises(GraphError, match="Gather 'pick': an index is outside of the 3 elements"):
        lower(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_gather_nd(check_node, rand):
    check_node("GatherND", rand(3, 4, 5), np.array([[0, 1], [-1, 2]], I64))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("pads", [(0, 0, 1, 2, 0, 0, 2, 1), (0, 1, 0, 0, 0, 1, 0, 0), (0, 0, -1, 1, 0, 0, 0, -1)])
def test_pad(check_node, rand, mode, pads):
    check_node("Pad", rand(2, 3, 4, 5), np.array(pads, I64), mode=mode)


def test_pad_with_a_value(check_node, rand):
    check_node("Pad", rand(2, 3, 4), np.array([0, 1, 0, 1, 0, 2], I64), np.float32(-1.5))
    check_node("Pad", rand(2, 3, 4), np.array([1, 2], I64), np.float32(0.5), np.array([2], I64))


def test_expand_and_tile(check_node, rand):
    check_node("Expand", rand(1, 3, 1), np.array([2, 3, 4], I64))
    check_node("Expand", rand(3, 1), np.array([2, 1, 4], I64))
    check_node("Tile", rand(2, 3, 1, 2), np.array([1, 2, 3, 1], I64))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(check_node, rand, mode):
    check_node("DepthToSpace", rand(1, 12, 3, 4), blocksize=2, mode=mode)
    check_node("SpaceToDepth", rand(1, 3, 4, 6), blocksize=2)
