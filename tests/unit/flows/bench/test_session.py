"""`bench` with the runtime that does nothing: what is kept when things go wrong, and what is gone on with."""

import json
import sys
from pathlib import Path

import pytest

from edgeseg.backends.null import BACKEND
from edgeseg.core import manifest
from edgeseg.core.errors import ArtifactError, EdgesegError
from edgeseg.core.manifest import Manifest, Source
from edgeseg.core.spec import ModelSpec
from edgeseg.devices import cpu
from edgeseg.flows.bench import results
from edgeseg.flows.bench.results import End, Round
from edgeseg.flows.bench.self_test import SelfTestRequest, self_test
from edgeseg.flows.bench.session import BenchRequest, bench
from edgeseg.flows.bench.variants import baseline_of, find, variants

SPEC = ModelSpec("m", 64, 32, "x", "y")

ROGUE = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[1:2]
from edgeseg.core import records
from edgeseg.worker import bench, main
real, to_json = bench._Ready.measure, records.to_json

def measure(self, command):
    if "crash" in command.item:
        os.abort()
    if "hang" in command.item:
        time.sleep(600)
    if "rubbish" in command.item:
        records.to_json = lambda record: "Segmentation fault"
    if "raise" in command.item:
        raise ValueError("the kernel\\nis missing")
    return real(self, command)

bench._Ready.measure = measure
main.main()
"""


def artifact(folder: Path, name: str) -> Path:
    """An artifact of the backend `null`."""
    place = folder / "m" / name
    place.mkdir(parents=True)
    BACKEND.convert(None, SPEC, "fp32", place)
    entry = manifest.entry(place / "model.null")
    manifest.write(place, Manifest("m", "null", "fp32", SPEC, (entry,), Source("w", "npz", "0"), "test", {}))
    return place


def request(tmp_path, *names, **more):
    settings = {"data": "none", "budget_s": 1.0, "out": tmp_path / "results", "timeout_s": 30.0, **more}
    return BenchRequest(tuple(artifact(tmp_path / "exports", name) for name in names), **settings)


def test_rows_rounds_and_device_file(tmp_path):
    result = bench(request(tmp_path, "one", "two", threads=(1, 2), budget_s=2.0))
    assert [row.variant.key for row in result.summary.rows] == ["m/one@1", "m/one@2", "m/two@1", "m/two@2"]
    assert all(row.latency is not None and row.failure is None for row in result.summary.rows)
    assert all(row.cold is not None and row.cold.start_ns > 0 for row in result.summary.rows)
    assert result.summary.rows[0].verdict == "baseline"
    recording = results.read(result.path)
    orders = {}
    for one in recording.of(Round):
        orders.setdefault(one.number, []).append(one.slice.item)
    assert len({tuple(order) for order in orders.values()}) > 1, "the order within the rounds is drawn anew"
    assert len({one.load for one in recording.of(Round)}) >= 2, "everything is loaded anew every few rounds"
    assert recording.of(End)[0].why in ("budget", "narrow")
    document = json.loads((result.path.parent / "device.json").read_text())
    assert document["id"] == result.path.parent.name
    assert document["cpu"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash", "SIGABRT"),
        ("hang", "no answer within 5 s"),
        ("rubbish", "'Segmentation fault', which is no record"),
        ("raise", "ValueError: the kernel is missing"),
    ],
)
def test_a_rogue_becomes_a_failed_row_and_the_rest_goes_on(tmp_path, monkeypatch, fault, reason):
    (tmp_path / "rogue.py").write_text(ROGUE)
    monkeypatch.setattr(cpu, "DEVICE", cpu.CpuDevice([sys.executable, str(tmp_path / "rogue.py")]))
    result = bench(request(tmp_path, "good", fault, "better", timeout_s=5.0 if fault == "hang" else 30.0))
    rows = {row.variant.artifact: row for row in result.summary.rows}
    assert reason in rows[f"m/{fault}"].failure.reason
    assert rows[f"m/{fault}"].state == "✗"
    assert rows["m/good"].latency.samples > 0
    assert rows["m/better"].latency.samples > 0


def test_a_worker_that_is_lost_in_the_middle_is_replaced(tmp_path, monkeypatch):
    """It is lost after its cold start, while the others are loaded in the same process."""
    late = ROGUE.replace('if "crash" in command.item:', 'if "crash" in command.item and command.runs > 3:')
    (tmp_path / "rogue.py").write_text(late)
    monkeypatch.setattr(cpu, "DEVICE", cpu.CpuDevice([sys.executable, str(tmp_path / "rogue.py")]))
    result = bench(request(tmp_path, "good", "crash", budget_s=2.0))
    rows = {row.variant.artifact: row for row in result.summary.rows}
    assert "SIGABRT" in rows["m/crash"].failure.reason
    assert rows["m/crash"].cold is not None
    assert rows["m/good"].latency.rounds > 1


def test_files_that_are_not_the_manifests_are_refused(tmp_path):
    asked = request(tmp_path, "one")
    (asked.artifacts[0] / "model.null").write_text("another")
    with pytest.raises(ArtifactError, match="not the file that its manifest describes"):
        bench(asked)


def test_an_interrupt_keeps_what_was_measured_and_resume_goes_on(tmp_path):
    asked = request(tmp_path, "one", "two", budget_s=30.0)

    def interrupt(what, share):
        if what.startswith("timing") and share > 0.02:
            raise KeyboardInterrupt

    stopped = bench(asked, progress=interrupt)
    assert stopped.interrupted
    assert stopped.summary.stopped == "interrupted"
    before = stopped.summary.rows[0].latency.rounds
    assert before > 0
    last = max(one.number for one in results.read(stopped.path).of(Round))

    again = bench(BenchRequest(**{**asked.__dict__, "resume": True, "budget_s": 1.0}))
    assert again.path == stopped.path
    assert again.summary.rows[0].latency.rounds > before
    assert max(one.number for one in results.read(again.path).of(Round)) > last
    assert again.summary.stopped in ("budget", "narrow")

    fresh = bench(BenchRequest(**{**asked.__dict__, "resume": True, "budget_s": 1.0}))
    assert fresh.path != stopped.path, "a finished session is not gone on with"


def test_a_killed_session_with_half_a_line_is_read_named_and_resumed(tmp_path):
    result = bench(request(tmp_path, "one"))
    lines = result.path.read_text().splitlines()
    kept = [line for line in lines if '"kind": "end"' not in line and '"kind": "timed"' not in line]
    result.path.write_text("\n".join(kept) + '\n{"kind": "round", "number": 99, "sli')
    recording = results.read(result.path)
    assert [bad.number for bad in recording.bad] == [len(kept) + 1]
    assert "line" in str(recording.bad[0])
    again = bench(
        BenchRequest((tmp_path / "exports/m/one",), data="none", budget_s=0.5, out=tmp_path / "results", resume=True)
    )
    assert again.path == result.path
    recording = results.read(result.path)
    assert len(recording.bad) == 1
    assert len(recording.of(Round)) > len([line for line in kept if '"kind": "round"' in line])


def test_rounds_that_were_finished_are_not_timed_again(tmp_path):
    asked = request(tmp_path, "one", budget_s=0.5)
    result = bench(asked)
    lines = result.path.read_text().splitlines()
    result.path.write_text("\n".join(line for line in lines if '"kind": "end"' not in line) + "\n")
    again = bench(BenchRequest(**{**asked.__dict__, "resume": True, "budget_s": 60.0}))
    assert again.path == result.path
    assert len(results.read(again.path).of(Round)) == len([line for line in lines if '"kind": "round"' in line])
    assert again.summary.stopped == result.summary.stopped


def test_sustained_stretches(tmp_path):
    result = bench(request(tmp_path, "one", sustain_s=2.0, budget_s=0.2))
    row = result.summary.rows[0]
    assert len(row.sustained) >= 8
    assert row.sustained_ratio == row.sustained[-1].median_ns / row.sustained[0].median_ns
    assert [one.index for one in row.sustained] == list(range(len(row.sustained)))


def test_what_cannot_be_asked_for(tmp_path):
    with pytest.raises(ArtifactError, match="there are no artifacts in"):
        find((), tmp_path)
    place = artifact(tmp_path, "one")
    with pytest.raises(ArtifactError, match="m/one is named twice"):
        find((place, place), tmp_path)
    mates = variants(find((place,), tmp_path), (1, 2))
    assert baseline_of(mates, "one") == "m/one@1"
    assert baseline_of(mates, "m/one@2") == "m/one@2"
    with pytest.raises(EdgesegError, match="unknown baseline 'two'"):
        baseline_of(mates, "two")
    with pytest.raises(EdgesegError, match="0 threads"):
        bench(BenchRequest((place,), data="none", threads=(0,), out=tmp_path))


def test_self_test_sees_a_twin_of_twice_the_time(tmp_path):
    place = artifact(tmp_path, "one")
    result = self_test(SelfTestRequest(place, runs=1, budget_s=4.0, slowdowns=(1.0, 8.0)))
    same, slow = result.tallies
    assert slow.slower == 1
    assert slow.passed
    assert same.slowdown == 1.0
    assert "saw a slow-down of 700 % in 1 of 1" in result.sentence
