"""The search for parts that stay in float, with judges whose answers are known."""

import pytest

from edgeseg.quantization import selection
from edgeseg.quantization.selection import Effect, Found, keep_in_float

PARTS = [Effect(name, (name,), 0.0, 100) for name in "abcd"]


def judge(errors):
    """Parts in float → the error after so many of them; counts its calls."""

    def asked(parts):
        asked.calls += 1
        return errors[len(parts)]

    asked.calls = 0
    return asked


def share(parts):
    return len(parts) / 4


def test_it_ends_where_it_is_good_enough():
    asked = judge([8.0, 4.0, 0.5, 0.1, 0.0])
    assert keep_in_float(asked, PARTS, 1.0, cost=share) == Found(frozenset("ab"), 0.5, True)
    assert asked.calls == 3


def test_all_in_int8_if_that_is_good_enough():
    assert keep_in_float(judge([0.5]), PARTS, 1.0) == Found(frozenset(), 0.5, True)


def test_what_is_good_enough_at_the_end_counts_as_reached():
    errors = [8.0, 4.0, 2.0, 1.5, 0.9]
    assert keep_in_float(judge(errors), PARTS, 0.75, enough=1.0, cost=share) == Found(frozenset("abcd"), 0.9, True)
    assert not keep_in_float(judge(errors), PARTS, 0.75, enough=0.8, cost=share).reached


@pytest.mark.parametrize(("errors", "parts"), [
    ([8.0, 4.0, 3.0, 2.6, 2.4], "a"),  # half of the error for a quarter of the multiplications, then ever less
    ([8.0, 7.0, 6.2, 5.5, 4.9], ""),  # no part is worth what it costs
    ([8.0, 6.5, 1.5, 1.4, 1.3], "ab"),  # the first one pays only together with the second one
    ([8.0, 6.0, 4.0, 2.0, 1.1], ""),  # as much as it costs is not more than it costs
])  # fmt: skip
def test_an_unreachable_goal_is_given_up_where_float_no_longer_pays(errors, parts):
    found = keep_in_float(judge(errors), PARTS, 1.0, cost=share)
    assert found == Found(frozenset(parts), errors[len(parts)], False)


def test_parts_that_make_it_no_better_are_skipped():
    def asked(parts):
        return 8.0 - 4.0 * ("b" in parts) - 3.5 * ("d" in parts) + 0.1 * ("c" in parts)

    assert keep_in_float(asked, PARTS, 1.0, cost=share) == Found(frozenset("bd"), 0.5, True)
    found = keep_in_float(asked, PARTS, 0.1, cost=lambda parts: 0.1 * len(parts))
    assert found == Found(frozenset("bd"), 0.5, False)


def test_a_share_of_nothing_is_no_division_by_zero():
    assert keep_in_float(lambda parts: 0.0, PARTS, -1.0, cost=share) == Found(frozenset(), 0.0, False)
    assert selection.keep_in_float(lambda parts: 0.0, [], 0.0).reached
