"""The pass over the pictures, by a crew that follows a script: what is kept of it, and where it goes on."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeseg.core.measurement import Mask
from edgeseg.core.spec import ModelSpec
from edgeseg.data.dataset import Pair, Sample, open_dataset
from edgeseg.flows.bench import accuracy
from edgeseg.flows.bench.accuracy import CHUNK
from edgeseg.flows.bench.judged import SUFFIX, Judgement, Shelf
from edgeseg.metrics.quality import ImageAgreement, ImageQuality
from edgeseg.worker.bench import encode

SPEC = ModelSpec("m", 64, 32, "x", "y")
PICTURES = 3 * CHUNK + 2


class Pictures:
    """A data set of small pictures of discs."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def read(self, index):
        number = self.pairs[index].index
        rows, columns = np.mgrid[:72, :96]
        mask = (np.hypot(rows - 40, columns - 50) < 20 + number % 7).astype(np.uint8)
        return Sample(self.pairs[index].name, np.full((72, 96, 3), number, np.uint8), mask)

    def stream(self, first=0):
        return (self.read(index) for index in range(first, len(self)))


class Crew:
    """Masks of pictures: the ground truth, with a stain that grows from picture to picture."""

    def __init__(self, dataset, stop_after=None, without=()):
        self.asked = []
        self._truths = {sample.image.tobytes(): index for index, sample in enumerate(dataset.stream())}
        self._dataset, self._stop_after, self._without = dataset, stop_after, without

    def masks(self, mate, frames):
        numbers = [self._truths[frame.tobytes()] for frame in frames]
        if self._stop_after is not None and len(self.asked) >= self._stop_after:
            raise KeyboardInterrupt
        if mate.variant.key in self._without:
            return [], []
        self.asked.append((mate.variant.key, numbers))
        names = [str(number) for number in numbers]
        predictor = SimpleNamespace(spec=replace(SPEC, classes=("background", "person")))
        answers = []
        for name, number in zip(names, numbers, strict=True):
            mask = self._dataset.read(number).mask.copy()
            mask[: 2 * self._dataset.pairs[number].index, :20] ^= 1
            answers.append(encode(mate.variant.key, name, mask, predictor))
        assert all(isinstance(answer, Mask) for answer in answers)
        return names, answers


def mate(name):
    manifest = SimpleNamespace(spec=SPEC)
    variant = SimpleNamespace(key=f"m/{name}@1", artifact=f"m/{name}")
    return SimpleNamespace(variant=variant, artifact=SimpleNamespace(manifest=manifest))


@pytest.fixture(scope="module")
def dataset():
    return Pictures([Pair(f"picture/{number}", None, None, number) for number in range(PICTURES)])


@pytest.fixture(scope="module")
def reference(dataset):
    masks = {sample.image.tobytes(): sample.mask for sample in dataset.stream()}
    return SimpleNamespace(mask=lambda image: masks[image.tobytes()])


def judge(crew, dataset, reference, kept, *names):
    mates = [mate(name) for name in names or ("one", "two")]
    return accuracy.run(crew, mates, reference, dataset, keep_worst=3, kept=kept)


def test_a_pass_that_was_interrupted_goes_on_and_says_the_same(dataset, reference, tmp_path):
    kept = tmp_path / f"session{SUFFIX}"
    whole, worst = judge(Crew(dataset), dataset, reference, None)
    stopped = Crew(dataset, stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        judge(stopped, dataset, reference, kept)
    assert kept.is_file()
    again = Crew(dataset)
    found, found_worst = judge(again, dataset, reference, kept)
    assert found == whole
    first = min(number for key, numbers in again.asked[:2] for number in numbers)
    assert first == 2 * CHUNK, "two chunks were judged by both, the third by one of the two"
    assert [(one.artifact, one.sample.name, one.flipped_share) for one in found_worst] == [
        (one.artifact, one.sample.name, one.flipped_share) for one in worst
    ]
    assert all(np.array_equal(one.mask, two.mask) for one, two in zip(found_worst, worst, strict=True))
    assert not kept.exists()


def test_the_worst_pictures_of_an_earlier_session_are_made_anew(dataset, reference, tmp_path):
    kept = tmp_path / f"session{SUFFIX}"
    turned = Pictures(dataset.pairs[::-1])  # the worst come first, and are judged before the interrupt
    _, worst = judge(Crew(dataset), turned, reference, None, "one")
    with pytest.raises(KeyboardInterrupt):
        judge(Crew(dataset, stop_after=3), turned, reference, kept, "one")
    again = Crew(dataset)
    _, found = judge(again, turned, reference, kept, "one")
    assert [one.sample.name for one in found] == [one.sample.name for one in worst]
    assert again.asked[-3:] == [("m/one@1", [PICTURES - 1 - turn]) for turn in range(3)]


def test_an_artifact_without_a_mask_has_no_score_and_holds_nobody_up(dataset, reference, tmp_path):
    kept = tmp_path / f"session{SUFFIX}"
    found, worst = judge(Crew(dataset, without=("m/two@1",)), dataset, reference, kept)
    assert [one.item for one in found] == ["reference", "m/one@1"]
    assert {one.artifact for one in worst} == {"m/one"}


def judgement(name, person):
    matrix = np.array([[5, 1], [0, person]])
    return Judgement(name, ImageQuality(name, matrix, (2, 3), None), ImageAgreement(name, matrix, 1 / (6 + person)))


def same(one: Judgement, other: Judgement) -> bool:
    return (
        one.name == other.name
        and np.array_equal(one.quality.matrix, other.quality.matrix)
        and (one.quality.boundary, one.quality.connectivity) == (other.quality.boundary, other.quality.connectivity)
        and np.array_equal(one.agreement.matrix, other.agreement.matrix)
        and one.flipped_share == other.flipped_share
    )


def test_what_is_kept_is_read_again_up_to_what_is_damaged(tmp_path):
    names = ["a", "b", "c"]
    shelf = Shelf(tmp_path / "x", 2, names)
    for index, name in enumerate(names):
        shelf.keep(index, {"one": [judgement(name, index)]})
    found = [chunk["one"][0] for chunk in shelf.read(["one"])]
    assert all(same(judgement(name, index), found[index]) for index, name in enumerate(names))
    assert list(shelf.read(["one", "two"])) == [], "two was never judged"
    assert list(Shelf(tmp_path / "x", 3, names).read(["one"])) == []
    assert list(Shelf(tmp_path / "x", 2, ["z", "b", "c"]).read(["one"])) == [], "another data set"
    text = Path(tmp_path / "x").read_text()
    (tmp_path / "x").write_text(text[: len(text) - 40])
    assert len(list(shelf.read(["one"]))) == 2
    shelf.keep(2, {"one": [judgement("c", 2)]})
    assert len(list(shelf.read(["one"]))) == 3, "half a line stays, and is passed over"


def test_a_real_data_set_streams_from_any_picture_on():
    dataset = open_dataset("sample:4")
    assert [pair.name for pair in dataset.pairs] == [sample.name for sample in dataset.stream()]
    assert [sample.name for sample in dataset.stream(2)] == [pair.name for pair in dataset.pairs[-2:]]
