from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.core.errors import DataError, EdgesegError
from edgeseg.data.masks import CODINGS, declared, infer


def named(*sets):
    return [(Path(f"{index}.png"), frozenset(codes)) for index, codes in enumerate(sets)]


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        ([{0}, {0, 1}], "0,1"),
        ([{0}], "0,1"),
        ([{1}, {0}], "0,1"),
        ([{0, 255}, {0}], "0,255"),
        ([{255}], "0,255"),
        ([{0, 1, 255}, {0, 1}], "0,1,255"),
        ([{0, 1, 255}], "0,1,255"),
    ],
)
def test_inferred_from_the_whole_set(sets, name):
    assert infer(named(*sets), 2).name == name


def test_more_classes_are_indices():
    assert infer(named({0, 3}, {0, 1, 255}), 5).name == "index"


@pytest.mark.parametrize("sets", [[{0, 255}, {0, 1}], [{0, 1, 255}, {0, 255}], [{0, 1}, {255}]])
def test_a_mixed_set_is_refused_and_both_files_are_named(sets):
    with pytest.raises(DataError, match=r"coded in two ways: \d\.png .* \d\.png") as caught:
        infer(named(*sets), 2)
    assert "--mask-values" in caught.value.hint


def test_grey_edges_are_refused():
    with pytest.raises(DataError, match=r"1\.png holds the code 37"):
        infer(named({0, 1}, {0, 37, 255}), 2)


def test_decoding():
    codes = np.array([[0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(CODINGS["0,1,255"].decode(codes, 2, Path("m")), [[0, 1, 255]])
    np.testing.assert_array_equal(CODINGS["0,255"].decode(codes[:, [0, 2]], 2, Path("m")), [[0, 1]])
    with pytest.raises(DataError, match="the mask m holds the code 255"):
        CODINGS["0,1"].decode(codes, 2, Path("m"))
    with pytest.raises(DataError, match="the code 1,"):
        CODINGS["0,255"].decode(codes, 2, Path("m"))


@given(st.sampled_from(sorted(CODINGS)), st.integers(2, 20), st.integers(0, 255))
def test_a_code_means_a_class_or_ignore_or_is_an_error(name, classes, code):
    try:
        value = int(CODINGS[name].decode(np.array([[code]], np.uint8), classes, Path("m"))[0, 0])
    except DataError:
        return
    assert value < classes or value == 255


def test_an_unknown_coding_names_the_known_ones():
    with pytest.raises(EdgesegError, match="unknown coding of masks '0,2'") as caught:
        declared("0,2")
    assert "0,255" in caught.value.hint
