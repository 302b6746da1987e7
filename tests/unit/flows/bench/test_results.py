import pytest

from edgeseg.core.errors import EdgesegError
from edgeseg.core.measurement import Hello
from edgeseg.flows.bench import latest, results
from edgeseg.flows.bench.rows import summarize
from edgeseg.flows.compare import CompareRequest, compare
from edgeseg.flows.pick import PickRequest, pick
from edgeseg.flows.report import ReportRequest, report

MODELS = {
    "onnx-fp32": (12.0, 0.93),
    "openvino-fp32": (9.0, 0.93),
    "openvino-int8": (5.0, 0.91),
    "tflite-fp16": (13.0, 0.93),
}


def test_rows(recorder):
    summary = summarize(results.read(recorder.session(MODELS)))
    rows = {row.variant.artifact: row for row in summary.rows}
    assert rows["m/onnx-fp32"].verdict == "baseline"
    assert rows["m/openvino-fp32"].verdict == "faster"
    assert rows["m/openvino-fp32"].ratio.contains(0.75)
    assert rows["m/tflite-fp16"].verdict == "slower"
    assert rows["m/openvino-int8"].miou_loss.value == pytest.approx(0.02)
    assert rows["m/openvino-int8"].executed == "f32"
    assert summary.stopped == "budget"


def test_a_killed_session_counts_as_interrupted(recorder):
    assert summarize(results.read(recorder.session(MODELS, ended=""))).stopped == "interrupted"


def test_a_ranking_that_the_long_run_turns_round_is_said(recorder):
    path = recorder.session(
        MODELS, sustained={"onnx-fp32": (12, 12.1), "openvino-fp32": (9, 16), "openvino-int8": (5, 6)}
    )
    (sentence,) = summarize(results.read(path)).flips
    assert sentence.startswith("m/openvino-fp32@1 begins faster than m/onnx-fp32@1 and ends slower")


def test_bad_lines_are_skipped_and_named(recorder):
    path = recorder.session(MODELS)
    lines = path.read_text().splitlines()
    lines[3] = '{"kind": "round", "number": "three"}'
    lines.insert(5, '{"kind": "round", "strange": 1}')
    path.write_text("\n".join(lines) + "\n")
    recording = results.read(path)
    assert [bad.number for bad in recording.bad] == [4, 6]
    assert "strange" in str(recording.bad[1])
    assert len(summarize(recording).rows) == 4


def test_a_schema_of_another_version_is_named(recorder):
    path = recorder.session(MODELS)
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(EdgesegError, match="schema version 9"):
        results.read(path)


def test_no_results(tmp_path):
    with pytest.raises(EdgesegError, match="there are no results in"):
        latest.read([tmp_path])


def test_the_newest_figures_win_and_a_strange_file_is_named(recorder):
    recorder.session(MODELS, number=0)
    recorder.session({"onnx-fp32": (20.0, 0.9)}, number=1)
    (recorder.folder / "cpu-test-2c" / "20260109.jsonl").write_text("hello\n")
    found = latest.read([recorder.folder])
    medians = {one.row.variant.artifact: one.row.latency.median_ns / 1e6 for one in found.rows}
    assert medians["m/onnx-fp32"] == pytest.approx(20, rel=0.05)
    assert medians["m/openvino-fp32"] == pytest.approx(9, rel=0.05)
    assert "holds no session" in found.skipped[0]


def test_device_id_names_no_host():
    hello = Hello({"cpu": "Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", "cores": "8"}, {})
    assert results.device_id("cpu", hello) == "cpu-intel-core-i5-8250u-8c"
    pi = Hello({"cpu": "Cortex-A76", "board": "Raspberry Pi 5 Model B Rev 1.0", "cores": "4"}, {})
    assert results.device_id("pi", pi) == "pi-raspberry-pi-5-model-b-rev-1-0-4c"


class TestCompare:
    def compared(self, recorder, after, **settings):
        before = recorder.session(MODELS, number=0)
        return compare(CompareRequest(before, recorder.session(after, number=1), **settings))

    def verdicts(self, result):
        return {change.variant[2:-2]: change.verdict for change in result.changes}

    def test_equal_sets(self, recorder):
        result = self.compared(recorder, MODELS)
        assert set(self.verdicts(result).values()) == {"cannot tell"}
        assert not result.regressed

    def test_slower_and_faster(self, recorder):
        after = {**MODELS, "openvino-fp32": (10.0, 0.93), "tflite-fp16": (11.0, 0.93)}
        result = self.compared(recorder, after)
        said = self.verdicts(result)
        assert said["openvino-fp32"] == "slower"
        assert said["tflite-fp16"] == "faster"
        assert said["onnx-fp32"] == "cannot tell"
        assert result.regressed

    def test_a_change_within_the_tolerance_is_none(self, recorder):
        result = self.compared(recorder, {**MODELS, "openvino-fp32": (10.0, 0.93)}, tolerance=0.2)
        assert self.verdicts(result)["openvino-fp32"] == "cannot tell"
        assert not result.regressed

    def test_a_machine_that_became_slower_as_a_whole(self, recorder):
        after = {name: (1.3 * ms, miou) for name, (ms, miou) in MODELS.items()}
        after["openvino-int8"] = (1.3 * 6.0, 0.91)
        said = self.verdicts(self.compared(recorder, after, relative=True))
        assert said["openvino-fp32"] == "cannot tell"
        assert said["openvino-int8"] == "slower"

    def test_lost_quality_is_a_regression(self, recorder):
        result = self.compared(recorder, {**MODELS, "openvino-int8": (5.0, 0.90)})
        (worse,) = (change for change in result.changes if change.worse)
        assert worse.variant == "m/openvino-int8@1"
        assert worse.miou_change == pytest.approx(-0.01)
        assert result.regressed

    def test_devices_and_variants_have_to_meet(self, recorder):
        before = recorder.session(MODELS, number=0)
        other = recorder.session(MODELS, number=1, device="pi-board-4c")
        with pytest.raises(EdgesegError, match="was measured on cpu-test-2c"):
            compare(CompareRequest(before, other))
        assert compare(CompareRequest(before, other, across_devices=True)).changes
        stranger = recorder.session({"tflite-int8": (5.0, 0.9)}, number=2)
        with pytest.raises(EdgesegError, match="no variant in common"):
            compare(CompareRequest(before, stranger))


class TestPick:
    def picked(self, recorder, **limits):
        recorder.session(MODELS)
        return pick(PickRequest((recorder.folder,), **limits))

    def test_the_best_masks_and_among_equals_the_fastest(self, recorder):
        result = self.picked(recorder)
        assert result.chosen.artifact == "m/openvino-fp32"
        why = {one.artifact: one.why_not for one in result.others}
        assert why["m/onnx-fp32"].startswith("masks as good, 1.3")
        assert why["m/openvino-int8"] == "2.00 points less mIoU"

    def test_limits(self, recorder):
        result = self.picked(recorder, max_ms=7.0)
        assert result.chosen.artifact == "m/openvino-int8"
        why = {one.artifact: one.why_not for one in result.others}
        assert why["m/openvino-fp32"].startswith("too slow: ")
        assert "7 ms asked" in why["m/openvino-fp32"]

    def test_an_interval_that_reaches_over_the_limit_is_not_within_it(self, recorder):
        recorder.session(MODELS)
        row = next(
            one.row for one in latest.read([recorder.folder]).rows if one.row.variant.artifact == "m/openvino-int8"
        )
        limit = (row.latency.median.value + row.latency.median.high) / 2e6
        result = pick(PickRequest((recorder.folder,), max_ms=limit))
        assert result.chosen is None
        assert any(one.why_not.startswith("perhaps too slow") for one in result.others)

    def test_nothing_fits(self, recorder):
        result = self.picked(recorder, max_ms=7.0, min_miou=0.92)
        assert result.chosen is None
        assert {one.artifact for one in result.others} == {f"m/{name}" for name in MODELS}

    def test_no_such_device(self, recorder):
        with pytest.raises(EdgesegError, match="no results of the device 'pi'"):
            self.picked(recorder, device="pi")


def test_csv_and_markdown(recorder, tmp_path):
    recorder.session(MODELS)
    report(ReportRequest((recorder.folder,), csv=tmp_path / "r.csv", markdown=tmp_path / "r.md"))
    header, *lines = (tmp_path / "r.csv").read_text().splitlines()
    assert len(lines) == 4
    first = dict(zip(header.split(","), lines[0].split(","), strict=True))
    assert first["artifact"] == "m/onnx-fp32"
    assert float(first["median_ms"]) == pytest.approx(12, rel=0.05)
    assert first["ratio"] == ""
    text = (tmp_path / "r.md").read_text()
    assert text.startswith("### cpu-test-2c")
    assert text.count("\n| ") >= 5
    assert "faster |" in text


def test_latencies_of_an_emulator_enter_no_choice(recorder):
    path = recorder.session(MODELS)
    path.write_text(path.read_text().replace('"emulated": false', '"emulated": true'))
    result = pick(PickRequest((recorder.folder,)))
    assert result.chosen is None
    assert {one.why_not for one in result.others} == {"measured in an emulator"}


def test_no_time_of_an_emulator_is_told(recorder, tmp_path):
    path = recorder.session(MODELS, sustained={"onnx-fp32": (10.0, 12.0)})
    path.write_text(path.read_text().replace('"emulated": false', '"emulated": true'))
    rows = summarize(results.read(path)).rows
    assert all(row.latency is None and row.ratio is None and row.verdict == "emulated" for row in rows)
    assert all(row.scores is not None and not row.sustained for row in rows), "the masks are real"
    report(ReportRequest((recorder.folder,), csv=tmp_path / "r.csv"))
    header, *lines = (tmp_path / "r.csv").read_text().splitlines()
    told = dict(zip(header.split(","), lines[0].split(","), strict=True))
    assert told["emulated"] == "True"
    assert not [name for name, value in told.items() if name.endswith("_ms") and value]


def test_pi_means_the_board_and_not_its_stand_in(recorder):
    real = recorder.session(MODELS, device="pi-raspberry-pi-4-4c")
    emulated = recorder.session(MODELS, device="pi-emulated-raspberry-pi-4-2c", number=1)
    emulated.write_text(emulated.read_text().replace('"emulated": false', '"emulated": true'))
    result = pick(PickRequest((recorder.folder,), device="pi"))
    assert result.chosen is not None
    assert real.exists()


def test_what_cannot_be_measured_any_more_is_a_regression(recorder):
    before = recorder.session(MODELS, number=0)
    after = recorder.session(MODELS, number=1)
    kept = [line for line in after.read_text().splitlines() if '"round"' not in line or "int8" not in line]
    kept.append(
        '{"kind": "failure", "item": "m/openvino-int8@1", "stage": "load", "reason": "no such kernel", "hint": ""}'
    )
    after.write_text("\n".join(kept) + "\n")
    result = compare(CompareRequest(before, after))
    assert result.regressed
    (lost,) = (change for change in result.changes if change.lost)
    assert lost.doubts[0] == "failed: no such kernel"
