"""The layer that makes the scores, and what is added to them."""

import numpy as np

from edgeseg.quantization.head import head_of, shifted
from edgeseg.quantization.placement import place
from edgeseg.quantization.simulation import session_of
from tests.unit.graph.rewrites.sketch import Sketch


def run(model, image):
    return session_of(model).run(None, {"image": image})[0]


def test_the_head_is_found_behind_a_resize(network):
    placed = place(network())
    head = head_of(placed, 2)
    assert head is not None
    assert head.name == "small"
    assert head_of(placed, 3) is None, "as many channels as there are scores"
    assert head_of(place(network(), floating=["small"]), 2) is None, "a float layer has nothing to level"


def test_scores_that_are_mixed_behind_the_layer_have_no_head():
    sketch = Sketch(channels=3)
    x = sketch.op("Softmax", [sketch.conv(sketch.relu(sketch.conv("image", 4)), 2)], 2, axis=1)
    assert head_of(place(sketch.model(x)), 2) is None


def test_what_is_added_is_added_to_this_layer_alone(network, inputs):
    model = network()
    [head] = [node for node in model.graph.node if node.output[0] == "small"]
    moved = shifted(model, "small", (0.5, -1.0))
    difference = run(moved, inputs[0]) - run(model, inputs[0])
    assert np.abs(difference - np.array([0.5, -1.0]).reshape(1, 2, 1, 1)).max() < 1e-5
    assert next(node for node in model.graph.node if node.output[0] == "small") == head, "the network itself stays"


def test_a_layer_without_a_bias_gets_one():
    sketch = Sketch(channels=3)
    x = sketch.conv(sketch.relu(sketch.conv("image", 4)), 2, bias=False)
    model = sketch.model(x)
    image = np.random.default_rng(0).normal(size=sketch.image).astype(np.float32)
    difference = run(shifted(model, x, (0.25, 0.75)), image) - run(model, image)
    assert np.abs(difference - np.array([0.25, 0.75]).reshape(1, 2, 1, 1)).max() < 1e-5
