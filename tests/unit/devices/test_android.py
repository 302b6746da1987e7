"""Phones behind adb, with an adb server that runs everything here: what is told, pushed, left, and what cannot be used."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg import devices
from edgeseg.backends.null import BACKEND
from edgeseg.core.device import TOOL, ConnectionLost, Settings, WorkerLost
from edgeseg.core.errors import ArtifactError, EdgesegError, MissingDependency
from edgeseg.core.job import Command, Item
from edgeseg.core.measurement import Failed, Loaded, Mask, Slice
from edgeseg.core.spec import ModelSpec
from edgeseg.devices import (
    _benchmark_model,
    _phone,
    _phone_bundle,
    _standin_board,
    _standin_phone,
    android,
    android_emulated,
)
from edgeseg.devices._phone import Cluster
from edgeseg.devices._phone_bundle import Part
from edgeseg.devices._standin_phone import TOLD
from edgeseg.flows.bench.session import BenchRequest, bench
from edgeseg.flows.export import ExportRequest, export
from edgeseg.flows.model import ModelRequest

SPEC = ModelSpec("m", 64, 32, "x", "y")
FRAME = np.zeros((48, 64, 3), np.uint8)
ITEM = Item("one", "null", "model.null", SPEC)

PRINTED = """INFO: STARTING!
INFO: Graph: [/data/local/tmp/model.tflite]
INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=17235

INFO: Running benchmark for at least 20 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=20 first=14634 curr=14601 min=14512 max=15324 avg=14655.3 std=91

INFO: Inference timings in us: Init: 5123, First inference: 17235, Warmup (avg): 1.7235e+04, Inference (avg): 14655.3
INFO: Memory footprint delta from the start of the tool (MB): init=4.51562 overall=6.20312
"""


class Phone:
    """The fake device: its programs, its temporary folder."""

    def __init__(self, server, tools: Path, temporary: Path) -> None:
        self.server, self.tools, self.temporary = server, tools, temporary
        self.told: list[str] = []
        self.properties = dict(line.split("=") for line in TOLD["properties"].splitlines())
        for name, text in TOLD.items():
            (tools / name).write_text(text)
        self.tool("dumpsys", f'cat "{tools}/dumpsys-$1" 2>/dev/null')
        self.write()

    def write(self) -> None:
        cases = "".join(f"{name}) echo '{value}';; " for name, value in self.properties.items())
        self.tool("getprop", f'case "$1" in {cases} esac')

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def device(self, **settings: object) -> android.AndroidDevice:
        return android.device("android", "", Settings(**{"say": self.told.append, **settings}))

    def left(self) -> list[str]:
        return sorted(path.name for path in self.temporary.iterdir())


@pytest.fixture
def phone(adb_server, tmp_path, monkeypatch):
    temporary, bundle = tmp_path / "temporary", tmp_path / "bundle"
    for folder in (temporary, bundle / "python", bundle / "numpy"):
        folder.mkdir(parents=True)
    (bundle / "python" / _phone_bundle.RUN).write_text(f'exec {sys.executable} "$@"\n')
    (bundle / "numpy/nothing.py").write_text("")
    monkeypatch.setattr(_phone, "TEMPORARY", str(temporary))
    monkeypatch.setattr(_phone_bundle, "require", lambda: None)
    made = (Part("python", bundle / "python"), [Part("numpy", bundle / "numpy")])
    monkeypatch.setattr(_phone_bundle, "parts", lambda names, say=None: made)
    return Phone(adb_server, adb_server.tools, temporary)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "artifact"
    folder.mkdir()
    BACKEND.convert(None, SPEC, "fp32", folder)
    return folder


def test_a_phone_is_probed_measures_makes_masks_and_is_left_as_it_was(phone, files):
    device = phone.device()
    about = device.probe().device
    assert about["board"] == "edgeseg Stand-in phone"
    assert about["soc"] == "edgeseg SOC55"
    assert about["android"] == "14 (API 34)"
    assert about["battery"] == "83 %, 29.4 °C, on USB power"
    assert about["thermal_status"] == "none"
    assert about["screen"] == "on"
    worker = device.start([(ITEM, files)], [FRAME], timeout_s=60)
    (loaded,) = worker.ask(Command("load", "one"), timeout_s=60)
    assert isinstance(loaded, Loaded)
    (measured,) = worker.ask(Command("measure", "one", runs=3), timeout_s=60)
    assert isinstance(measured, Slice)
    names = worker.send_frames([FRAME])
    (mask,) = worker.ask(Command("masks", "one", frames=tuple(names)), timeout_s=60)
    assert isinstance(mask, Mask)
    worker.close()
    (folder,) = phone.left()
    assert folder.startswith("edgeseg-")
    assert not list((phone.temporary / folder / "jobs").iterdir())
    device.close()
    assert phone.left() == []


def test_what_is_kept_is_not_pushed_again_and_clean_removes_it(phone):
    kept = phone.device(keep=True)
    kept.probe()
    assert set(kept.pushed) == {"runtime", "worker"}
    kept.close()
    again = phone.device(keep=True)
    again.probe()
    assert dict(again.pushed) == {}
    assert again.clean().startswith(f"{phone.temporary}/edgeseg-")
    again.close()
    assert phone.left() == []


def test_a_cable_that_is_pulled_is_a_lost_connection_and_not_a_lost_worker(phone, files):
    device = phone.device()
    worker = device.start([(ITEM, files)], [FRAME], timeout_s=60)
    list(worker.ask(Command("load", "one"), timeout_s=60))
    phone.server.pull_the_cable()
    with pytest.raises(ConnectionLost, match="connection lost"):
        list(worker.ask(Command("measure", "one"), timeout_s=60))
    worker.close()
    device.close()
    assert any("edgeseg device clean android" in line for line in phone.told)


def test_a_worker_that_crashes_is_a_lost_worker(phone, files, monkeypatch):
    monkeypatch.setattr(_phone.AndroidPhone, "mask", lambda self, which: "1")
    phone.tool("taskset", "kill -s SEGV $$")
    device = phone.device(cores="big")
    with pytest.raises(WorkerLost, match="ended by SIGSEGV"):
        device.start([(ITEM, files)], [], timeout_s=60)
    device.close()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ro.product.cpu.abi", "armeabi-v7a", "is armeabi-v7a; what is pushed runs on arm64-v8a only"),
        ("ro.product.cpu.abi", "", "is no Android"),
        ("ro.build.version.sdk", "23", "7 or newer is needed"),
    ],
)
def test_phones_that_the_bundle_does_not_run_on(phone, name, value, message):
    phone.properties[name] = value
    phone.write()
    with pytest.raises(EdgesegError, match=message) as caught:
        phone.device().probe()
    assert "--device browser" in caught.value.hint


def test_an_emulator_of_android_is_stamped(phone):
    phone.properties["ro.boot.qemu"] = "1"
    phone.write()
    device = phone.device()
    assert device.probe().emulated
    device.close()


def test_benchmark_model_beside_the_worker(phone, files, tmp_path):
    tool = tmp_path / "benchmark_model"
    tool.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/flags\ncat <<'T'\n{PRINTED}T\n")
    device = phone.device(benchmark_model=str(tool))
    own = Item("tool", "tflite", "model.null", SPEC, threads=4, options={"accelerator": TOOL})
    worker = device.start([(ITEM, files), (own, files)], [FRAME], timeout_s=60)
    (loaded,) = worker.ask(Command("load", "tool"), timeout_s=60)
    assert loaded == Loaded("tool", TOOL, 0, 5_123_000, 17_235_000, 6_203_120)
    (measured,) = worker.ask(Command("measure", "tool", runs=20, warmups=2), timeout_s=60)
    assert isinstance(measured, Slice)
    assert (measured.infer_ns, measured.warmup_ns, measured.batch) == ((14_655_300,), (17_235_000,), 20)
    assert measured.conditions.load is not None, "it is the worker that says how the device is"
    (refused,) = worker.ask(Command("masks", "tool"), timeout_s=60)
    assert isinstance(refused, Failed)
    (measured,) = worker.ask(Command("load", "one"), timeout_s=60)
    assert isinstance(measured, Loaded)
    flags = (tmp_path / "flags").read_text().splitlines()[1]
    assert "--num_threads=4" in flags
    assert "--num_runs=20" in flags
    assert "--warmup_runs=2" in flags
    worker.close()
    device.close()


@pytest.mark.slow
def test_a_whole_bench_with_both(phone, tmp_path, need, connectnet_weights):
    need("ai_edge_litert", "pip install 'edgeseg[tflite]'", what="tflite")
    np.savez(tmp_path / "weights.npz", **connectnet_weights)
    model = ModelRequest(tmp_path / "weights.npz", size=(96, 64))
    export(ExportRequest(model, targets=("onnx", "tflite"), data="sample:2", out=tmp_path / "exports"))
    tool = tmp_path / "benchmark_model"
    tool.write_text(f"#!/bin/sh\ncat <<'T'\n{PRINTED}T\n")
    settings = Settings(benchmark_model=str(tool))
    device = phone.device(benchmark_model=str(tool))
    asked = BenchRequest(
        exports=tmp_path / "exports", device="android", settings=settings, data="sample:2", threads=(2,), budget_s=1.0,
        out=tmp_path / "results",
    )  # fmt: skip
    result = bench(asked, device=device)
    rows = {row.variant.key.partition("/")[2]: row for row in result.summary.rows}
    assert list(rows) == ["onnx-fp32@2", "tflite-fp32@2", "tflite-fp32@2+benchmark_model"]
    assert all(row.failure is None and row.latency is not None for row in rows.values())
    tool_row = rows["tflite-fp32@2+benchmark_model"]
    assert tool_row.latency.median_ns == 14_655_300
    assert tool_row.agreement is None
    assert tool_row.total_ns is None, "it tells nothing of pre- and post-processing"
    assert rows["tflite-fp32@2"].agreement.flipped_share == 0
    assert result.path.parent.name.startswith("android-edgeseg-stand-in-phone-")
    assert phone.left() == []
    with pytest.raises(ArtifactError, match="benchmark_model runs TFLite files, and there is none"):
        bench(replace(asked, artifacts=(tmp_path / "exports/pphumanseg-lite/onnx-fp32",)), device=device)


def test_a_benchmark_model_that_gives_no_result_is_a_failed_row(phone, files, tmp_path):
    tool = tmp_path / "benchmark_model"
    tool.write_text("#!/bin/sh\necho 'ERROR: Benchmarking failed.'\nexit 1\n")
    device = phone.device(benchmark_model=str(tool))
    own = Item("tool", "tflite", "model.null", SPEC, options={"accelerator": TOOL})
    worker = device.start([(own, files)], [], timeout_s=60)
    (answer,) = worker.ask(Command("load", "tool"), timeout_s=60)
    assert isinstance(answer, Failed)
    assert answer.reason == "benchmark_model gave no result: ERROR: Benchmarking failed."
    worker.close()
    device.close()


def test_what_benchmark_model_prints():
    assert _benchmark_model.parse(PRINTED) == _benchmark_model.Printed(5_123_000, 17_235_000, 14_655_300, 20, 6_203_120)
    assert _benchmark_model.parse(PRINTED.replace("Inference (avg)", "Inference")) is None
    assert _benchmark_model.parse("") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 an archive that is long enough", "is no program"),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + bytes(40), "not for 64-bit Arm"),
        (b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x28\x00" + bytes(40), "not for 64-bit Arm"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_no_benchmark_model(tmp_path, content, message):
    path = tmp_path / "tool"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgesegError, match=message):
        _benchmark_model.check(path)
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(40))
    _benchmark_model.check(path)


def test_clusters_and_the_cores_of_a_kind():
    lines = ["0 1800000", "1 1800000", "10 2850000", "11 2850000", "4 2350000", "12 x", "x 1"]
    found = _phone.clusters(lines)
    assert found == (
        Cluster((12,), 0),
        Cluster((0, 1), 1_800_000),
        Cluster((4,), 2_350_000),
        Cluster((10, 11), 2_850_000),
    )
    assert str(found[-1]) == "2 at 2.85 GHz (cpu 10, 11)"
    phone = _phone.AndroidPhone({"ro.product.manufacturer": "m", "ro.product.model": "x"}, found[1:], "", None, "")
    assert phone.mask("big") == "c00"
    assert phone.mask("little") == "3"
    alike = _phone.AndroidPhone(phone.properties, found[1:2], "", None, "")
    with pytest.raises(EdgesegError, match="all cores of m x are alike"):
        alike.mask("big")
    with pytest.raises(EdgesegError, match="unknown kind of cores 'bigg'"):
        phone.mask("bigg")


def test_battery():
    assert _phone.battery(TOLD["dumpsys-battery"]) == "83 %, 29.4 °C, on USB power"
    assert _phone.battery(
        TOLD["dumpsys-battery"].replace("\n", ";").replace("USB powered: true", "USB powered: false")
    ) == ("83 %, 29.4 °C, on battery")
    assert _phone.battery("Can't find service: battery") == ""


def test_without_the_bundle_there_is_the_command_that_fetches_it(adb_server, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESEG_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(MissingDependency) as caught:
        devices.load("android").probe()
    assert caught.value.hint == _phone_bundle.INSTALL_COMMAND
    assert adb_server.asked == [], "nothing was touched"


def test_a_phone_of_ones_own_name(adb_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/devices.toml").write_text('old = "android:B"\n')
    device = devices.load("old")
    assert isinstance(device, android.AndroidDevice)
    assert device._adb.serial == "B"
    assert devices.load("android:A", Settings(host="C"))._adb.serial == "C"


def test_a_stand_in_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESEG_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(MissingDependency, match="stand-in of a phone is not installed") as caught:
        devices.load("android-emulated")
    assert caught.value.hint == android_emulated.INSTALL_COMMAND
    with pytest.raises(EdgesegError, match="android-emulated has no kinds"):
        devices.load("android-emulated:pixel")


def test_the_stand_in_shows_two_clusters(tmp_path):
    _standin_board.write(tmp_path, [_standin_phone._A55] * 2 + [_standin_phone._A76] * 2)
    cpu = tmp_path / "sys/devices/system/cpu"
    assert (cpu / "cpu0/topology/cluster_cpus_list").read_text() == "0-1\n"
    assert (cpu / "cpu3/topology/cluster_cpus").read_text() == "c\n"
    assert (cpu / "cpu3/topology/package_cpus_list").read_text() == "0-3\n"
    assert (cpu / "cpu2/cpufreq/cpuinfo_max_freq").read_text() == "2400000\n"
    assert (tmp_path / "cpuinfo").read_text().count("CPU part\t: 0xd05") == 2
