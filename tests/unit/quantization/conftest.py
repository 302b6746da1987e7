"""A small network with everything that placement has rules for, and pictures to calibrate it on."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.spec import ModelSpec

SIZE = (48, 32)


def branching(seed=0, *, head_channel=1.0):
    """Stem, pool, two branches that meet in a Concat, shuffle, split, a residual sum, resize, and a head.

    `head_channel` multiplies one channel in front of the head by that, and the head's weights for it by its inverse:
    in float the same network, for one scale a tensor a hopeless one.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)
    constants = {}

    def weight(name, *shape):
        constants[name] = (random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        constants[f"{name}.b"] = (random.normal(size=shape[0]) * 0.1).astype(np.float32)
        return [name, f"{name}.b"]

    same = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    make = helper.make_node
    constants["grouped"] = np.array([1, 2, 8, 8, 12], np.int64)
    constants["flat"] = np.array([1, 16, 8, 12], np.int64)
    constants["sizes"] = np.array([1, 8, 16, 24], np.int64)
    constants["full"] = np.array([1, 2, 32, 48], np.int64)
    constants["low"], constants["high"] = np.float32(0), np.float32(6)
    nodes = [
        make("Conv", ["image", *weight("w.stem", 8, 3, 3, 3)], ["stem.conv"], strides=[2, 2], **same),
        make("Relu", ["stem.conv"], ["stem"]),
        make("MaxPool", ["stem"], ["pool"], strides=[2, 2], **same),
        make("Conv", ["pool", *weight("w.left", 8, 1, 3, 3)], ["left.conv"], group=8, **same),
        make("Clip", ["left.conv", "low", "high"], ["left"]),
        make("Conv", ["pool", *weight("w.right", 8, 8, 1, 1)], ["right.conv"]),
        make("Relu", ["right.conv"], ["right"]),
        make("Concat", ["left", "right"], ["joined"], axis=1),
        make("Reshape", ["joined", "grouped"], ["grouped.out"]),
        make("Transpose", ["grouped.out"], ["turned"], perm=[0, 2, 1, 3, 4]),
        make("Reshape", ["turned", "flat"], ["shuffled"]),
        make("Split", ["shuffled"], ["first", "second"], axis=1),
        make("Conv", ["second", *weight("w.deep", 8, 8, 3, 3)], ["deep"], **same),
        make("Add", ["deep", "first"], ["sum"]),
        make("Conv", ["sum", *weight("w.mix", 8, 8, 1, 1)], ["mix.conv"]),
        make("Relu", ["mix.conv"], ["mix"]),
        make("Resize", ["mix", "", "", "sizes"], ["up"], mode="linear", coordinate_transformation_mode="half_pixel"),
        make("Conv", ["up", *weight("w.wide", 8, 8, 1, 1)], ["wide.conv"]),
        make("Relu", ["wide.conv"], ["wide"]),
        make("Conv", ["wide", *weight("w.head", 2, 8, 1, 1)], ["small"]),
        make("Resize", ["small", "", "", "full"], ["scores"], mode="linear",
             coordinate_transformation_mode="half_pixel"),
    ]  # fmt: skip
    constants["w.wide"][3] *= head_channel
    constants["w.wide.b"][3] *= head_channel
    constants["w.head"][:, 3] /= head_channel
    graph = helper.make_graph(
        nodes, "branching",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, SIZE[1], SIZE[0]))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 2, SIZE[1], SIZE[0]))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="session")
def small_spec():
    return ModelSpec("branching", *SIZE, input_name="image", output_name="scores")


@pytest.fixture(scope="session")
def inputs(small_spec):
    from edgeseg.data.preprocess import to_input
    from edgeseg.data.sample import sample

    return [to_input(sample(index)[0], small_spec) for index in range(8)]


@pytest.fixture
def network():
    """`network()`: the small network; `network(head_channel=200)` is the one that plain quantisation cannot do."""
    return branching
