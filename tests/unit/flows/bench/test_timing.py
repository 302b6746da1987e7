"""How long a slice is, and that equal variants get equal ones."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from edgeseg.core.measurement import Slice
from edgeseg.flows.bench import timing


@pytest.mark.parametrize(("each_s", "asking_s", "expected"), [
    (0.0001, 0.0, (100, 10)),
    (0.004, 0.0, (2, 1)),
    (0.028, 0.0, (1, 1)),  # never without a warm-up: another network has used the caches
    (0.004, 0.02, (5, 1)),  # over a slow network a slice is worth the way
    (0.004, 9.0, (12, 1)),  # but not minutes
])  # fmt: skip
def test_the_length_of_a_slice(each_s, asking_s, expected):
    assert timing.slice_of(each_s, asking_s) == expected


class Crew:
    """Networks whose runs take 30 ms (they say), in a worker that takes its time to start."""

    def __init__(self, starting_s):
        self.asked = []
        self.starting_s = starting_s
        self.alive = [SimpleNamespace(variant=SimpleNamespace(key=key)) for key in "ab"]

    def measure(self, mate, *, runs, warmups, around=0, expected_s=0.0):
        if not self.asked:
            time.sleep(self.starting_s + 0.2)  # beyond what the runs are said to take
        self.asked.append((mate.variant.key, runs, warmups))
        return Slice(
            item=mate.variant.key, warmup_ns=(30_000_000,) * warmups, infer_ns=(30_000_000,) * runs,
            prepare_ns=(0,) * around, finish_ns=(0,) * around, conditions=None, peak_bytes=0,
        )  # fmt: skip

    def reload(self, mate):
        self.asked.append((mate.variant.key, "load", 0))


def test_variants_of_one_kind_are_measured_in_slices_of_one_kind():
    """The first probe of a worker takes longer, because the worker starts; its slices must not be longer for it."""
    crew, kept = Crew(starting_s=0.03), []
    timing.run(crew, timing.Plan(0.02, "a", 0), keep=kept.append)
    assert {entry[1:] for entry in crew.asked[2:] if entry[1] != "load"} == {(1, 1)}
    assert {len(one.slice.infer_ns) for one in kept} == {1}
    assert any(entry[1] == "load" for entry in crew.asked), "everything is loaded anew within the budget"
