"""INT8 that is none is said to be none."""

import json
from dataclasses import replace

import pytest

from edgeseg.core.measurement import Loaded
from edgeseg.flows.bench import integers, latest, results
from edgeseg.flows.bench.results import Variant
from edgeseg.flows.bench.rows import summarize
from edgeseg.metrics.latency import Interval

INT8 = Variant("m/openvino-int8@1", "m/openvino-int8", "openvino", "int8", 1, 100, "0")
FAST, EVEN = Interval(0.5, 0.48, 0.52), Interval(0.97, 0.93, 1.01)


def names(variant=INT8, executed=None, ratio=None, share=1.0):
    loaded = Loaded(variant.key, "openvino 1", 1, 1, 1, executed=executed or {})
    return {label.name: label.text for label in integers.labels(variant, loaded, ratio, share)}


def test_fast_int8_has_no_label():
    assert names(ratio=FAST, executed={"i8": 30, "u8": 20, "f32": 60}) == {}
    assert names() == {}, "nothing is known, so nothing is said"


def test_a_ratio_whose_interval_holds_1_is_not_faster():
    assert "×0.970 [0.930 … 1.010] of openvino fp32" in names(ratio=EVEN)["not faster here"]
    assert "not faster here" in names(ratio=Interval(1.2, 1.1, 1.3))
    assert names(replace(INT8, precision="fp16"), ratio=EVEN) == {}, "only INT8 promises to be faster"


def test_a_share_below_a_half_is_mostly_float():
    assert "12 % of the multiply-accumulates" in names(share=0.12, ratio=FAST)["mostly float"]
    assert "not faster here" not in names(share=0.12, ratio=FAST), "the clock has the last word"
    assert "not faster here" in names(share=0.12), "where nobody measured it, float is not expected to be faster"
    assert names(share=None) == {}


def test_a_device_that_runs_int8_in_half_precision_says_so():
    """ARM: OpenVINO's plug-in has no integer kernels for it and computes in f16."""
    said = names(executed={"f16": 120, "f32": 4, "i64": 9}, ratio=EVEN, share=1.0)
    assert said["mostly float"] == "openvino runs this INT8 artifact in f16 on this device, nothing of it in integers"


@pytest.mark.parametrize(("ms", "slow"), [(2.5, False), (5.1, True)])
def test_rows_of_a_session_carry_it_everywhere(recorder, ms, slow):
    path = recorder.session({"openvino-fp32": (5.0, 0.93), "openvino-int8": (ms, 0.93)})
    rows = {row.variant.artifact: row for row in summarize(results.read(path)).rows}
    int8, fp32 = rows["m/openvino-int8"], rows["m/openvino-fp32"]
    assert ("not faster here" in int8.shown_labels) is slow
    assert fp32.shown_labels == ()
    # The recorder's worker says that all its operations are f32.
    assert "mostly float" in int8.shown_labels


def test_other_threads_and_other_runtimes_are_no_baseline(recorder):
    other = [replace(INT8, key="a", artifact="m/onnx-fp32", backend="onnx", precision="fp32"),
             replace(INT8, key="b", artifact="m/openvino-fp32", precision="fp32", threads=2),
             replace(INT8, key="c", artifact="k/openvino-fp32", precision="fp32")]  # fmt: skip
    assert integers.plain_of(INT8, other) is None
    mine = replace(INT8, key="d", artifact="m/openvino-fp32", precision="fp32")
    assert integers.plain_of(INT8, [*other, mine]) == mine


def test_sessions_from_before_are_still_read(recorder):
    path = recorder.session({"onnx-fp32": (5.0, 0.93)})
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    for variant in first["variants"]:
        del variant["integer_mac_share"]
    path.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    assert latest.read([path]).rows[0].row.variant.integer_mac_share is None


@pytest.mark.parametrize(
    ("share", "told", "shown"),
    [
        (0.874, {}, "int8 87 %"),
        (1.0, {"i8": 30, "f32": 3, "i64": 9}, "int8 100 %"),
        (1.0, {"f16": 120, "f32": 4, "i64": 9}, "f16, f32"),
        (None, {"u8": 12, "f32": 3}, "u8, f32"),
        (None, {}, ""),
    ],
)
def test_what_a_table_says_that_is_executed(recorder, share, told, shown):
    summary = summarize(results.read(recorder.session({"openvino-int8": (5.0, 0.9)})))
    row = summary.rows[0]
    cold = replace(row.cold, loaded=replace(row.cold.loaded, executed=told))
    assert replace(row, variant=replace(row.variant, integer_mac_share=share), cold=cold).executed == shown
