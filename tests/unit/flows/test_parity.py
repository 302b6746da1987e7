"""The judge itself: sums, gates, order, and that every planted fault is seen."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from edgeseg.core.spec import ModelSpec
from edgeseg.data.dataset import Sample
from edgeseg.data.predictor import Predictor
from edgeseg.flows.parity import Gate, Lane, compare, gate_for, plan_lanes
from edgeseg.flows.remembered import Remembered

SPEC = ModelSpec("n", 32, 32, "x", "y", output_kind="labels", output_layout="nhw")


class Says:
    """A session whose label map is a function of the picture's first pixel."""

    def __init__(self, answer):
        self.answer = answer
        self.threads = set()

    def run(self, feeds):
        self.threads.add(threading.get_ident())
        number = round((float(feeds["x"][0, 0, 0, 0]) + 1) * 127.5)
        return {"y": self.answer(number)[None].astype(np.int64)}

    def close(self):
        pass


def mask(number):
    picture = np.zeros((32, 32), np.uint8)
    picture[4 : 10 + number % 13, 6:20] = 1
    return picture


def read(number, truth=True):
    return Sample(f"p{number}", np.full((32, 32, 3), number, np.uint8), mask(number) if truth else None)


def judge(answer, *, count=40, truth=True, gate=None, lanes=2, **options):
    made = [Lane(Predictor(SPEC, Says(mask)), (("artifact", Predictor(SPEC, Says(answer))),)) for _ in range(lanes)]
    gate = gate or Gate()
    return compare(lambda index: read(index, truth), count, made, gates=[gate] * len(made[0].artifacts), **options)[0]


def flip_one_per_cent(number):
    changed = mask(number)
    changed.ravel()[::100] ^= 1
    return changed


FAULTS = {
    "one per cent of the pixels flipped": flip_one_per_cent,
    "classes swapped": lambda number: 1 - mask(number),
    "shifted by one pixel": lambda number: np.roll(mask(number), 1, axis=1),
    "empty": lambda number: np.zeros((32, 32), np.uint8),
    "turned": lambda number: mask(number).T,
    "one picture of forty wrong": lambda number: 1 - mask(number) if number == 17 else mask(number),
}


def test_the_same_masks_pass():
    comparison = judge(mask)
    assert comparison.passed
    assert comparison.agreement.flipped_pixels == 0
    assert comparison.scores.miou == comparison.reference.miou == 1.0
    assert comparison.scores.images == 40


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("truth", [True, False])
def test_every_fault_is_seen(fault, truth):
    comparison = judge(fault, truth=truth)
    assert not comparison.passed
    assert "% of the pixels agree" in comparison.failures[0]
    assert (comparison.scores is not None) == truth


def test_a_single_pixel_passes_the_gate_but_is_counted():
    def one(number):
        changed = mask(number)
        changed[0, 0] ^= number == 3
        return changed

    comparison = judge(one)
    assert comparison.passed
    assert comparison.agreement.flipped_pixels == 1
    assert comparison.agreement.images_changed == 1
    assert comparison.agreement.worst_image == "p3"
    assert not judge(one, gate=Gate(min_agreement=1.0)).passed


def test_a_constant_reference_proves_nothing():
    empty = Says(lambda number: np.zeros((32, 32), np.uint8))
    lane = Lane(Predictor(SPEC, empty), (("artifact", Predictor(SPEC, empty)),))
    comparison = compare(lambda index: read(index), 3, [lane], gates=[Gate()])[0]
    assert "agreement proves nothing" in comparison.failures[0]


def test_a_wanted_miou_needs_masks():
    assert "no ground-truth masks" in judge(mask, truth=False, gate=Gate(min_miou=0.5)).failures[0]
    assert judge(mask, gate=Gate(min_miou=0.99)).passed


def test_lanes_change_nothing_but_the_speed():
    one, four = (judge(flip_one_per_cent, lanes=lanes, keep_worst=3) for lanes in (1, 4))
    assert one.agreement == four.agreement
    assert one.scores == four.scores
    assert [compared.sample.name for compared in one.worst] == [compared.sample.name for compared in four.worst]


def test_the_worst_are_kept_worst_first_and_no_more():
    comparison = judge(FAULTS["one picture of forty wrong"], keep_worst=4)
    assert len(comparison.worst) == 4
    assert comparison.worst[0].sample.name == "p17"
    shares = [compared.flipped_share for compared in comparison.worst]
    assert shares == sorted(shares, reverse=True)


def test_the_reference_runs_once_for_all_artifacts_while_its_masks_fit():
    runs = []

    def asked(number):
        runs.append(number)
        return mask(number)

    def found(answer, remembered):
        lane = Lane(Predictor(SPEC, Says(asked)), (("a", Predictor(SPEC, Says(answer))),))
        return compare(read, 10, [lane], gates=[Gate()], remembered=remembered)[0]

    kept = Remembered()
    first, second = found(mask, kept), found(flip_one_per_cent, kept)
    assert sorted(runs) == list(range(10))
    assert first.agreement.flipped_share == 0
    alone = judge(flip_one_per_cent, count=10)
    assert second.agreement == alone.agreement
    assert (second.scores, second.reference) == (alone.scores, alone.reference)
    runs.clear()
    small = Remembered(limit_bytes=3 * 32 * 32)
    found(mask, small), found(mask, small)
    assert len(runs) == 17, "three masks fit"


def test_every_step_is_told():
    steps = []
    judge(mask, count=7, step=lambda: steps.append(1))
    assert len(steps) == 7


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
def test_lanes_fill_the_cores_and_not_more(cores):
    lanes, threads = plan_lanes(cores)
    assert 1 <= lanes <= 4
    assert cores // 2 < lanes * threads <= cores


def test_an_int8_artifact_is_judged_by_the_int8_gate_unless_told_otherwise():
    assert gate_for("fp16") == gate_for("fp32") == Gate()
    assert gate_for("int8").min_agreement < Gate().min_agreement
    assert gate_for("int8", min_agreement=0.9999) == replace(gate_for("int8"), min_agreement=0.9999)


def test_each_artifact_has_its_own_gate():
    moved = FAULTS["shifted by one pixel"]
    artifacts = tuple((name, Predictor(SPEC, Says(moved))) for name in ("strict", "lax"))
    lanes = [Lane(Predictor(SPEC, Says(mask)), artifacts)]
    gates = [Gate(), Gate(min_agreement=0.5, max_miou_drop=1.0)]
    assert [one.passed for one in compare(lambda index: read(index), 3, lanes, gates=gates)] == [False, True]
