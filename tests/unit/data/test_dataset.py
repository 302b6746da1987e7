import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeseg.core.errors import DataError
from edgeseg.data.dataset import ahead, open_dataset


def picture(path: Path, value=0, size=(16, 9), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def pairs(tmp_path):
    for index in range(6):
        picture(tmp_path / f"images/{index}.png", (index, 0, 0))
        mask = np.zeros((9, 16), np.uint8)
        mask[2:5, 2:5] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"masks/{index}.png")
    (tmp_path / "val.txt").write_text("".join(f"images/{index}.png masks/{index}.png\n" for index in range(6)))
    return tmp_path


@pytest.mark.parametrize("place", [".", "val.txt"])
def test_folder_and_list_give_the_same_samples_in_order(pairs, place):
    dataset = open_dataset(str(pairs / place))
    assert dataset.coding.name == "0,255"
    assert dataset.inferred
    samples = list(dataset.stream())
    assert [int(sample.image[0, 0, 0]) for sample in samples] == list(range(6))
    assert all(sample.mask.sum() == 9 and sample.mask.max() == 1 for sample in samples)
    assert samples[2].name == "images/2.png"


def test_a_declared_coding_is_not_inferred(pairs):
    dataset = open_dataset(str(pairs), mask_values="0,1,255")
    assert not dataset.inferred
    assert set(np.unique(dataset.read(0).mask)) == {0, 255}


def test_a_count_takes_some_spread_over_the_set_but_the_coding_comes_from_all(pairs):
    Image.fromarray(np.ones((9, 16), np.uint8)).save(pairs / "masks/5.png")
    with pytest.raises(DataError, match="coded in two ways"):
        open_dataset(f"{pairs}:2")
    Image.fromarray(np.zeros((9, 16), np.uint8)).save(pairs / "masks/5.png")
    assert [pair.name for pair in open_dataset(f"{pairs}:3").pairs] == ["images/0.png", "images/2.png", "images/4.png"]
    with pytest.raises(DataError, match="no pictures at all"):
        open_dataset(f"{pairs}:0")


def test_images_alone(pairs, tmp_path):
    dataset = open_dataset(str(pairs / "images"))
    assert len(dataset) == 6
    assert not dataset.has_masks
    assert dataset.read(0).mask is None
    assert len(open_dataset(str(pairs / "images" / "3.png"))) == 1
    (pairs / "only.txt").write_text("images/1.png\n\n  \nimages/2.png")
    assert len(open_dataset(str(pairs / "only.txt"))) == 2


def test_a_mask_of_another_size_names_both_files(pairs):
    picture(pairs / "masks/3.png", 0, (9, 16), "L")
    dataset = open_dataset(str(pairs))
    with pytest.raises(DataError, match=r"masks/3\.png is 9x16, its image .*images/3\.png is 16x9"):
        list(dataset.stream())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("images/0.png masks/9.png\n", r"line 1: the file .*9\.png does not exist"),
        ("images/0.png masks/0.png extra\n", "line 1: 3 columns"),
        ("\n\n", "is empty"),
        ("images/0.png masks/0.png\nimages/1.png\n", r"images/1\.png has none"),
    ],
)
def test_bad_lists(pairs, lines, message):
    (pairs / "bad.txt").write_text(lines)
    with pytest.raises(DataError, match=message):
        open_dataset(str(pairs / "bad.txt"))


def test_bad_places(tmp_path):
    with pytest.raises(DataError, match="there is no data set at") as caught:
        open_dataset(str(tmp_path / "nowhere"))
    assert "sample" in caught.value.hint
    with pytest.raises(DataError, match="no images in"):
        open_dataset(str(tmp_path))
    picture(tmp_path / "images/a.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"a\.png has no mask"):
        open_dataset(str(tmp_path))
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\0\x01")
    with pytest.raises(DataError, match="not a list file"):
        open_dataset(str(tmp_path / "list.bin"))


def test_ahead_keeps_the_order_and_bounds_what_waits():
    started = []
    lock = threading.Lock()

    def work(item):
        with lock:
            started.append(item)
        time.sleep(0.001 * (item % 3))
        return item

    seen = []
    for value in ahead(work, range(200), threads=3):
        seen.append(value)
        assert len(started) - len(seen) <= 3 * 3
    assert seen == list(range(200))


def test_ahead_raises_in_turn_and_stops():
    def work(item):
        if item == 5:
            raise DataError("five")
        return item

    seen = []
    with pytest.raises(DataError, match="five"):
        for value in ahead(work, range(10_000)):
            seen.append(value)
    assert seen == [0, 1, 2, 3, 4]


def test_memory_stays_flat(tmp_path):
    picture(tmp_path / "images/a.png", (1, 2, 3), (160, 90))
    lines = "images/a.png\n"

    def peak(count):
        (tmp_path / "list.txt").write_text(lines * count)
        tracemalloc.start()
        for _ in open_dataset(str(tmp_path / "list.txt")).stream():
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    small, large = peak(60), peak(1200)
    assert large - small < 1200 * 90 * 160 * 3 / 20  # names may grow with the set, pictures may not
