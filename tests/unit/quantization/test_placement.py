"""What is quantised, and what has to share a scale."""

import math

import onnx
import pytest

from edgeseg.core.errors import GraphError
from edgeseg.quantization.placement import place


def test_all_convolutions_are_layers_and_activations_are_folded(network):
    placed = place(network())
    results = {layer.name: layer.result for layer in placed.layers}
    assert results["stem.conv"] == "stem"
    assert results["left.conv"] == "left"
    assert results["deep"] == "deep"
    assert len(placed.layers) == 7
    [left] = [layer for layer in placed.layers if layer.result == "left"]
    assert (left.floor, left.ceiling) == (0.0, 6.0)
    assert left.macs == 8 * 9 * 8 * 12
    assert placed.macs == sum(layer.macs for layer in placed.layers)


def test_what_moves_elements_shares_a_scale(network):
    group = place(network()).group_of()
    assert group["stem"] is group["pool"]
    shuffled = {"left", "right", "joined", "grouped.out", "turned", "shuffled", "first", "second"}
    assert {name for name in group if group[name] is group["joined"]} == shuffled
    assert group["mix"] is group["up"]
    assert group["sum"] is not group["first"]
    assert group["joined"].sources == ("left", "right")
    assert group["joined"].floor == 0.0
    assert group["deep"].floor == -math.inf


def test_the_last_resize_stays_in_float(network):
    placed = place(network())
    assert "scores" not in placed.group_of()
    assert "small" in placed.group_of()


def test_float_layers_leave_their_neighbours(network):
    placed = place(network(), floating=["small", "wide.conv"])
    assert {layer.name for layer in placed.layers}.isdisjoint({"small", "wide.conv"})
    assert "wide" not in placed.group_of()
    assert "mix" in placed.group_of()  # an integer layer writes it
    assert "up" not in placed.group_of()  # nobody needs it in integers any more
    assert placed.macs == place(network()).macs
    with pytest.raises(GraphError, match="no layer 'nowhere'"):
        place(network(), floating=["nowhere"])


def test_a_network_without_convolutions_is_refused(network):
    model = network()
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("Identity", ["image"], ["scores"]))
    with pytest.raises(GraphError, match="nothing of this network can be quantised"):
        place(model)
