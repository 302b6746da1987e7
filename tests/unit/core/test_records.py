import json
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.core import records
from edgeseg.core.errors import EdgesegError
from edgeseg.core.records import RecordError
from edgeseg.core.spec import ModelSpec, State


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Outer:
    name: str
    items: tuple[Inner, ...]
    pair: tuple[int, int]
    kind: Literal["a", "b"] = "a"
    maybe: float | None = None
    table: dict[str, str] = None
    schema_version: int = 1


GOOD = {"name": "n", "items": [{"value": 1}], "pair": [1, 2], "table": {"x": "y"}}


def test_round_trip():
    record = records.from_dict(Outer, GOOD)
    assert record.items == (Inner(1.0),)
    assert records.from_json(Outer, records.to_json(record)) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown field 'colour'"),
        ({"name": 3}, r"Outer\.name: str was expected, found 3"),
        ({"items": [{"value": "x"}]}, r"Outer\.items\[0\]\.value: float was expected"),
        ({"pair": [1, 2, 3]}, "2 values were expected, found 3"),
        ({"pair": [1, True]}, "int was expected, found True"),
        ({"kind": "c"}, "'c' is none of 'a', 'b'"),
        ({"schema_version": 2}, "schema version 2, this edgeseg reads 1"),
        ({"items": 5}, "a list was expected, found int"),
        ({"table": []}, "an object was expected"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(RecordError, match=message):
        records.from_dict(Outer, {**GOOD, **change})


def test_a_missing_field_is_named():
    with pytest.raises(RecordError, match="the field 'name' is missing"):
        records.from_dict(Outer, {key: value for key, value in GOOD.items() if key != "name"})


@pytest.mark.parametrize("text", ["", "{", "[]", "nul", b"\xff\xfe"])
def test_rubbish_is_an_error_of_ours(text):
    with pytest.raises(RecordError):
        records.from_json(Outer, text, where="some file")


def test_nan_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        records.to_json(Inner(float("nan")))


@given(
    st.builds(
        ModelSpec,
        name=st.text(max_size=20),
        width=st.integers(1, 4096),
        height=st.integers(1, 4096),
        input_name=st.text(max_size=9),
        output_name=st.text(max_size=9),
        classes=st.lists(st.text(max_size=8), max_size=5).map(tuple),
        mean=st.tuples(*[st.floats(-10, 10)] * 3),
        std=st.tuples(*[st.floats(0.001, 10)] * 3),
        color=st.sampled_from(["rgb", "bgr"]),
        output_kind=st.sampled_from(["logits", "probabilities", "labels"]),
        states=st.lists(
            st.builds(State, st.text(max_size=5), st.text(max_size=5), st.lists(st.integers(1, 9)).map(tuple)),
            max_size=3,
        ).map(tuple),
    )
)
def test_any_spec_survives_json(spec):
    assert records.from_json(ModelSpec, records.to_json(spec)) == spec
    assert json.loads(records.to_json(spec))["schema_version"] == 1


def test_a_spec_without_a_size_or_with_zero_std_is_refused():
    with pytest.raises(EdgesegError, match="0x4 is not a size"):
        ModelSpec("n", 0, 4, "x", "y")
    with pytest.raises(EdgesegError, match="not above 0"):
        ModelSpec("n", 4, 4, "x", "y", std=(1.0, 0.0, 1.0))
    with pytest.raises(EdgesegError, match="not above 0"):
        ModelSpec("n", 4, 4, "x", "y", std=(1.0, float("nan"), 1.0))
