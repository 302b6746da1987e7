"""Dynamic sizes are fixed to what is asked for, and nothing is guessed."""

import numpy as np
import onnx
import pytest

from edgeseg.core.errors import GraphError
from edgeseg.graph.pin import image_input, image_layout, is_static, pin_input
from tests.unit.graph.networks import network, noise, run


def shapes(model: onnx.ModelProto) -> list[list[int]]:
    values = [*model.graph.input, *model.graph.output]
    return [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values]


@pytest.mark.parametrize("dims", [("n", 3, "h", "w"), (-1, 3, -1, -1), (None, None, None, None), (1, 3, 24, 40)])
def test_every_way_of_writing_a_dynamic_size(dims: tuple[int | str | None, ...]) -> None:
    model = network(dims)  # type: ignore[arg-type]
    pinned = pin_input(model, (40, 24))
    assert shapes(pinned) == [[1, 3, 24, 40], [1, 2, 24, 40]]
    assert is_static(pinned)
    np.testing.assert_array_equal(run(pinned, noise(24, 40)), run(model, noise(24, 40)))


def test_the_given_model_is_left_alone() -> None:
    model = network()
    before = model.SerializeToString()
    pin_input(model, (40, 24))
    assert model.SerializeToString() == before


def test_a_dynamic_size_has_to_be_given() -> None:
    with pytest.raises(GraphError, match="image has no fixed size") as error:
        pin_input(network(), None)
    assert "--input-size" in error.value.hint


def test_a_fixed_size_is_kept_without_one() -> None:
    pinned = pin_input(network(("n", 3, 24, 40)), None)
    assert shapes(pinned)[0] == [1, 3, 24, 40]


@pytest.mark.parametrize("size", [(24, 40), (40, 25), (41, 24)])
def test_another_size_than_the_fixed_one_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(GraphError, match=rf"fixed at 40x24 \(width x height\), not {size[0]}x{size[1]}") as error:
        pin_input(network(("n", 3, 24, 40)), size)
    assert "--input-size 40x24" in error.value.hint


def test_half_fixed_is_named_as_such() -> None:
    with pytest.raises(GraphError, match=r"fixed at \?x24"):
        pin_input(network(("n", 3, 24, "w")), (40, 32))


def test_a_batch_of_two_is_refused() -> None:
    with pytest.raises(GraphError, match="fixed at a batch of 2"):
        pin_input(network((2, 3, 24, 40)), (40, 24))


def test_stale_shapes_are_forgotten() -> None:
    model = network()
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("features", 1, [1, 2, 999, 999]))
    pinned = pin_input(model, (40, 24))
    inner = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in pinned.graph.value_info
    }
    assert inner["features"] == [1, 2, 12, 20]


def test_channels_last_is_seen() -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["image"], ["scores"])],
        "net",
        [value("image", 1, ["n", "h", "w", 3])],
        [value("scores", 1, ["n", "h", "w", 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    assert image_layout(image_input(model)) == "nhwc"
    pinned = pin_input(model, (40, 24))
    assert shapes(pinned) == [[1, 24, 40, 3], [1, 24, 40, 3]]
    assert is_static(pinned)
    assert not is_static(model)


def two_inputs(second: list[int | str]) -> onnx.ModelProto:
    model = network()
    model.graph.input.append(onnx.helper.make_tensor_value_info("state", 1, second))
    return model


def test_the_image_is_the_input_with_three_channels() -> None:
    assert image_input(two_inputs(["n", 16, "h", "w"])).name == "image"


def test_two_images_are_not_chosen_between() -> None:
    with pytest.raises(GraphError, match=r"not clear; the inputs are: image \[\?, 3, \?, \?\], state \[\?, 3, 8, 8\]"):
        image_input(two_inputs(["n", 3, 8, 8]))
    assert image_input(two_inputs(["n", 3, 8, 8]), "state").name == "state"


def test_an_input_that_shares_the_symbols_is_pinned_too() -> None:
    assert shapes(pin_input(two_inputs(["n", 16, "h", "w"]), (40, 24)))[1] == [1, 16, 24, 40]


def test_another_dynamic_input_is_named() -> None:
    with pytest.raises(GraphError, match=r"the input state \[1, 16, \?, \?\] is dynamic"):
        pin_input(two_inputs(["n", 16, "other", "unknown"]), (40, 24))


def test_an_unknown_input_name_lists_the_inputs() -> None:
    with pytest.raises(GraphError, match="no input 'picture'") as error:
        pin_input(network(), (40, 24), input_name="picture")
    assert "image [?, 3, ?, ?]" in error.value.hint


def test_a_graph_that_does_not_work_at_the_size_is_refused() -> None:
    model = network()
    model.graph.node[1].output[0] = "loose"
    model.graph.node.insert(2, onnx.helper.make_node("Reshape", ["loose", "fixed"], ["active"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2, 12, 20]), "fixed"))
    assert is_static(pin_input(model, (40, 24)))
    with pytest.raises(GraphError, match="does not work out at this size"):
        pin_input(model, (40, 32))


def test_a_graph_without_image_is_refused() -> None:
    model = network()
    model.graph.input[0].type.tensor_type.shape.dim.pop()
    with pytest.raises(GraphError, match="not clear"):
        pin_input(model, (40, 24))
