"""Channels of one range: the same network in float, a better one in integers."""

import numpy as np
import pytest

from edgeseg.core.errors import GraphError
from edgeseg.quantization import equalisation, placement, ranges, selection
from edgeseg.quantization.simulation import Simulation, session_of


def watched(placed, inputs):
    return ranges.watch(placed, ({"image": tensor} for tensor in inputs), len(inputs))


def run(model, inputs):
    session = session_of(model)
    return np.concatenate([session.run(None, {"image": tensor})[0] for tensor in inputs])


def in_integers(placed, inputs):
    seen = watched(placed, inputs)
    scales = {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}
    simulation = Simulation(placed, seen)
    return np.concatenate([simulation.run({"image": tensor}, scales, frozenset()) for tensor in inputs])


def equalised(placed, inputs):
    factors = equalisation.factors(placed, watched(placed, inputs))
    return placement.place(equalisation.apply(placed, factors)), factors


def test_the_float_network_stays_what_it_is(network, inputs):
    placed = placement.place(network())
    after, factors = equalised(placed, inputs)
    assert {"stem.conv", "right.conv", "deep", "mix.conv", "wide.conv"} == set(factors)
    assert all((values >= 1).all() for values in factors.values())
    before = run(placed.model, inputs)
    assert np.abs(run(after.model, inputs) - before).max() <= 1e-5 * np.abs(before).max()


def test_no_tensor_gets_a_larger_range(network, inputs):
    placed = placement.place(network())
    after, _ = equalised(placed, inputs)
    before, now = watched(placed, inputs), watched(after, inputs)
    for group in placed.groups:
        scales = [ranges.candidates(group, seen)["minmax"].step for seen in (before, now)]
        assert scales[1] <= scales[0] * 1.001, group.name


def test_a_channel_of_200_times_the_others_range_is_mended(network, inputs):
    placed = placement.place(network(head_channel=200.0))
    before = run(placed.model, inputs)
    after, factors = equalised(placed, inputs)
    other, _ = equalised(placement.place(network()), inputs)
    without = np.abs(in_integers(other, inputs) - before).mean()
    plain = np.abs(in_integers(placed, inputs) - before).mean()
    mended = np.abs(in_integers(after, inputs) - before).mean()
    assert plain > 1.5 * without
    assert mended < 1.05 * without, "as good as the network that never had such a channel"
    assert np.median(factors["wide.conv"]) > 5
    assert factors["wide.conv"][3] == 1


def test_what_leaves_the_network_and_what_a_clip_ends_keep_their_numbers(network, inputs):
    placed = placement.place(network())
    _, factors = equalised(placed, inputs)
    assert "small" not in factors, "its resize is the output"
    assert "left.conv" not in factors, "a Clip at 6 is another one of a multiplied channel"


def test_channels_are_followed_through_shuffle_split_and_sum(network):
    placed = placement.place(network())
    channels = equalisation._Channels(placed)
    # `deep` reads the second half of the shuffled `left`, `right`; odd places are of `right`.
    joined = np.concatenate([channels.of["left.conv"], channels.of["right.conv"]])
    shuffled = joined.reshape(2, 8).T.ravel()
    assert np.array_equal(channels.root(channels.read["deep"]), channels.root(shuffled[8:]))
    # A sum ties its inputs together.
    assert np.array_equal(channels.root(channels.of["deep"]), channels.root(shuffled[:8]))


def test_factors_of_another_network_are_refused(network):
    placed = placement.place(network())
    with pytest.raises(GraphError, match="'nothing' cannot be multiplied"):
        equalisation.apply(placed, {"nothing": np.ones(8)})
    with pytest.raises(GraphError, match="no such layer of 3 channels"):
        equalisation.apply(placed, {"wide.conv": np.ones(3)})


def test_weights_that_two_layers_read_are_left_alone(network, inputs):
    model = network()
    wide = next(node for node in model.graph.node if node.output[0] == "wide.conv")
    mix = next(node for node in model.graph.node if node.output[0] == "mix.conv")
    wide.input[1] = mix.input[1]
    placed = placement.place(model)
    before = run(model, inputs)
    after, factors = equalised(placed, inputs)
    assert "mix.conv" not in factors
    assert "wide.conv" not in factors
    assert np.abs(run(after.model, inputs) - before).max() <= 1e-5 * np.abs(before).max()


def test_the_search_ends_when_the_masks_are_good_enough():
    effects = [selection.Effect(name, (name,), 0.0, 1) for name in "abcd"]
    asked = []

    def judge(parts):
        asked.append(parts)
        return 1.0 - 0.3 * len(parts & {"a", "c"})

    found = selection.keep_in_float(judge, effects, 0.5)
    assert found.parts == {"a", "c"}, "b made it no better"
    assert found.error == pytest.approx(0.4)
    assert len(asked) == 4
