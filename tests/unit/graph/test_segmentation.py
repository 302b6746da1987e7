import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeseg.backends.onnx import describe as write_spec
from edgeseg.core.errors import GraphError
from edgeseg.core.spec import ModelSpec
from edgeseg.graph.segmentation import Told, describe

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def network(inputs, outputs, nodes, constants=()):
    """A model of (name, shape, element type) inputs and outputs."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape, kind in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape, kind in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(channels, tail=(), output="mask", shape=None, kind=FLOAT):
    weight = np.random.default_rng(0).normal(size=(channels, 3, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["image", "w"], ["c" if tail else output]), *tail]
    return network(
        [("image", (1, 3, 24, 40), FLOAT)], [(output, shape or (1, channels, 24, 40), kind)], nodes, [("w", weight)]
    )


@pytest.mark.parametrize(
    ("model", "kind", "layout", "channels"),
    [
        (conv(2), "logits", "nchw", 2),
        (conv(5), "logits", "nchw", 5),
        (conv(2, [helper.make_node("Softmax", ["c"], ["mask"], axis=1)]), "probabilities", "nchw", 2),
        (conv(1, [helper.make_node("Sigmoid", ["c"], ["mask"])]), "probabilities", "nchw", 1),
        (conv(1), "logits", "nchw", 1),
        (
            conv(3, [helper.make_node("ArgMax", ["c"], ["mask"], axis=1, keepdims=0)], shape=(1, 24, 40), kind=INT),
            "labels", "nhw", 2,
        ),
        (conv(2, [helper.make_node("Transpose", ["c"], ["mask"], perm=[0, 2, 3, 1])], shape=(1, 24, 40, 2)),
         "logits", "nhwc", 2),
        (
            conv(1, [helper.make_node("Clip", ["c", "lo", "hi"], ["mask"])]), "probabilities", "nchw", 1,
        ),
    ],
)  # fmt: skip
def test_what_an_output_is(model, kind, layout, channels):
    if model.graph.node[-1].op_type == "Clip":
        model.graph.initializer.extend(
            [onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("lo", 0), ("hi", 1))]
        )
    spec, assumed = describe(model, "net", Told())
    assert (spec.output_kind, spec.output_layout, spec.output_channels) == (kind, layout, channels)
    assert (spec.width, spec.height, spec.input_layout) == (40, 24, "nchw")
    assert any("assumed RGB" in sentence for sentence in assumed)


def test_what_is_told_is_not_assumed():
    told = Told(color="bgr", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), classes=("sky", "ground"))
    spec, assumed = describe(conv(2), "net", told)
    assert (spec.color, spec.mean, spec.classes) == ("bgr", (0, 0, 0), ("sky", "ground"))
    assert assumed == []


def test_a_spec_in_the_file_wins_over_guessing_and_the_user_over_both():
    model = conv(2)
    written = ModelSpec("inside", 40, 24, "image", "mask", color="bgr", classes=("a", "b"))
    write_spec(model, written)
    spec, assumed = describe(model, "net", Told(classes=("c", "d")))
    assert (spec.color, spec.classes, assumed) == ("bgr", ("c", "d"), [])


def test_a_smaller_mask_is_still_a_mask_but_features_are_not():
    small = conv(2)
    small.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 6
    small.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 10
    assert describe(small, "net", Told())[0].output_channels == 2
    with pytest.raises(GraphError, match="no output of the network is a mask"):
        describe(conv(300), "net", Told())


def test_several_masks_have_to_be_chosen_from():
    model = conv(2)
    model.graph.node.append(helper.make_node("Relu", ["mask"], ["aux"]))
    model.graph.output.append(helper.make_tensor_value_info("aux", FLOAT, (1, 2, 24, 40)))
    with pytest.raises(GraphError, match=r"more than one output .* mask .* aux") as caught:
        describe(model, "net", Told())
    assert "--output mask" in caught.value.hint
    assert describe(model, "net", Told(output="aux"))[0].output_name == "aux"
    with pytest.raises(GraphError, match="has no output 'nope'"):
        describe(model, "net", Told(output="nope"))


def test_states_are_paired_by_name_and_shape():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"]),
        helper.make_node("Add", ["c", "h_in"], ["mask"]),
        helper.make_node("Relu", ["mask"], ["h_out"]),
    ]
    weight = np.ones((2, 3, 1, 1), np.float32)
    shape = (1, 2, 24, 40)
    model = network(
        [("image", (1, 3, 24, 40), FLOAT), ("h_in", shape, FLOAT)],
        [("mask", shape, FLOAT), ("h_out", shape, FLOAT)],
        nodes,
        [("w", weight)],
    )
    spec, _ = describe(model, "net", Told(output="mask"))
    assert [(state.input_name, state.output_name, state.shape) for state in spec.states] == [("h_in", "h_out", shape)]
    del model.graph.output[1]
    with pytest.raises(GraphError, match="wants an input h_in"):
        describe(model, "net", Told())


def test_no_picture_goes_in():
    model = network([("x", (1, 8), FLOAT)], [("y", (1, 8), FLOAT)], [helper.make_node("Relu", ["x"], ["y"])])
    with pytest.raises(GraphError, match="no input of the network is one colour picture"):
        describe(model, "net", Told())
