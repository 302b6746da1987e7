"""How long a slice is, and that what was just loaded is warmed up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgeseg.core.measurement import Slice
from edgeseg.flows.bench import timing


@pytest.mark.parametrize(("each_s", "asking_s", "expected"), [
    (0.0001, 0.0, (100, 10)),
    (0.004, 0.0, (2, 1)),
    (0.028, 0.0, (1, 0)),  # one run, and no cold cache that counts
    (0.004, 0.02, (5, 1)),  # over a slow network a slice is worth the way
    (0.004, 9.0, (12, 1)),  # but not minutes
])  # fmt: skip
def test_the_length_of_a_slice(each_s, asking_s, expected):
    assert timing.slice_of(each_s, asking_s) == expected


class Crew:
    """Networks whose runs take 30 ms, and who keeps what was asked."""

    def __init__(self):
        self.asked = []
        self.alive = [SimpleNamespace(variant=SimpleNamespace(key=key)) for key in "ab"]

    def measure(self, mate, *, runs, warmups, around=0, expected_s=0.0):
        self.asked.append((mate.variant.key, runs, warmups))
        return Slice(
            item=mate.variant.key, warmup_ns=(30_000_000,) * warmups, infer_ns=(30_000_000,) * runs,
            prepare_ns=(0,) * around, finish_ns=(0,) * around, conditions=None, peak_bytes=0,
        )  # fmt: skip

    def reload(self, mate):
        self.asked.append((mate.variant.key, "load", 0))


def test_what_was_just_loaded_is_warmed_up_once():
    crew, kept = Crew(), []
    timing.run(crew, timing.Plan(0.02, "a", 0), keep=kept.append)
    asked = crew.asked[2:]  # behind the calibration
    assert asked[0][1:] == (1, 0), "the calibration has warmed up what the first round measures"
    loads = [place for place, (_, what, _) in enumerate(asked) if what == "load"]
    assert loads, "everything is loaded anew within the budget"
    for key in "ab":
        after = [entry for entry in asked[loads[-1] :] if entry[0] == key and entry[1] != "load"]
        assert [entry[2] for entry in after[:2]] in ([1], [1, 0])
    assert all(len(one.slice.infer_ns) == 1 for one in kept)
