"""The layout algebra against numpy: where the elements go is what the orders say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.backends.tflite import layout


def stored(logical: np.ndarray, order: layout.Order) -> np.ndarray:
    """What a tensor holds for a value in this order."""
    return logical.transpose(order)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


@st.composite
def ordered(draw):
    shape = draw(shapes)
    return shape, tuple(draw(st.permutations(range(len(shape)))))


@given(ordered(), st.data())
def test_a_transpose_moves_nothing(case, data):
    shape, order = case
    permutation = data.draw(st.permutations(range(len(shape))))
    x = np.arange(math.prod(shape)).reshape(shape)
    after = layout.transposed(order, permutation)
    assert np.array_equal(stored(x, order), stored(x.transpose(permutation), after))


@st.composite
def reshapes(draw):
    """A value in some order, and a new shape made by merging and splitting its dimensions."""
    shape, order = draw(ordered())
    sizes = list(shape)
    new: list[int] = []
    while sizes:
        take = draw(st.integers(1, len(sizes)))
        whole = math.prod(sizes[:take])
        sizes = sizes[take:]
        divisors = [d for d in range(1, whole + 1) if whole % d == 0]
        first = draw(st.sampled_from(divisors))
        new += draw(st.sampled_from([[whole], [first, whole // first], [1, whole]]))
    return shape, order, tuple(new)


@given(reshapes())
def test_a_reshape_in_place_keeps_the_data(case):
    shape, order, new = case
    after = layout.reshaped(shape, order, new)
    x = np.arange(math.prod(shape)).reshape(shape)
    if after is not None:
        assert sorted(after) == list(range(len(new)))
        assert np.array_equal(stored(x, order).reshape(-1), stored(x.reshape(new), after).reshape(-1))
    else:
        assert order != layout.identity(len(shape)), "what lies as ONNX says can be reshaped in place"


@given(reshapes())
def test_the_nearest_reshapable_order_can_be_reshaped(case):
    shape, order, new = case
    near = layout.reshapable(shape, order, new)
    assert sorted(near) == list(range(len(shape)))
    assert layout.reshaped(shape, near, new) is not None


@given(ordered())
def test_the_simplest_permutation_moves_the_same_elements(case):
    shape, permutation = case
    x = np.arange(math.prod(shape)).reshape(shape)
    view, simple = layout.simplest_permutation(shape, permutation)
    assert np.array_equal(x.transpose(permutation).reshape(-1), x.reshape(view).transpose(simple).reshape(-1))
    assert len(view) <= len(shape)


@given(ordered(), st.data())
def test_dropping_and_inserting_dimensions_of_size_one(case, data):
    shape, order = case
    rank = len(shape) + 1
    axis = data.draw(st.integers(0, rank - 1))
    wide = (*shape[:axis], 1, *shape[axis:])
    x = np.arange(math.prod(shape)).reshape(shape)
    after = layout.inserted(order, [axis])
    assert np.array_equal(stored(x.reshape(wide), after).reshape(-1), stored(x, order).reshape(-1))
    assert layout.dropped(after, [axis]) == order


def test_a_channel_split_stays_where_it_is():
    assert layout.reshaped((1, 12, 5, 6), layout.NHWC, (1, 2, 6, 5, 6)) is not None


@pytest.mark.parametrize(
    ("shapes", "result", "merged"),
    [
        ([(2, 3, 4, 5), (2, 3, 4, 5)], (2, 3, 4, 5), (120,)),
        ([(2, 3, 4, 5), (1, 1, 4, 5)], (2, 3, 4, 5), (6, 20)),
        ([(2, 1, 4, 1), (1, 3, 1, 5)], (2, 3, 4, 5), (2, 3, 4, 5)),
    ],
)
def test_broadcasts_merge_what_behaves_alike(shapes, result, merged):
    found, view = layout.merged_broadcast(shapes, result)
    assert view == merged
    assert np.broadcast_shapes(*found) == view
