"""A phone behind the real adbd, without a C library: what is measured there, what is left there, and what can go wrong."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgeseg import devices
from edgeseg.backends.null import BACKEND
from edgeseg.core import manifest, npm
from edgeseg.core.device import WorkerLost
from edgeseg.core.errors import EdgesegError
from edgeseg.core.job import Command, Item
from edgeseg.core.manifest import Manifest, Source
from edgeseg.core.measurement import Loaded
from edgeseg.core.spec import ModelSpec
from edgeseg.devices import _remote, _standin_phone
from edgeseg.devices.browser import runtimes
from edgeseg.flows.bench import session
from edgeseg.flows.bench.session import BenchRequest, bench

ROOT = Path(__file__).parents[2]
SPEC = ModelSpec("m", 64, 32, "x", "y")
BACKENDS = ("onnx", "openvino", "tflite")
TMP = "$root/data/local/tmp"


def artifact(folder, name, backend="null"):
    """Of the backend that does nothing: what is tried here is the road."""
    place = folder / "m" / name
    place.mkdir(parents=True)
    BACKEND.convert(None, SPEC, "fp32", place)
    entry = manifest.entry(place / "model.null")
    manifest.write(place, Manifest("m", backend, "fp32", SPEC, (entry,), Source("w", "npz", "0"), "test", {}))
    return place


@pytest.fixture
def asked(tmp_path):
    folders = tuple(artifact(tmp_path / "exports", name) for name in ("one", "two"))
    return BenchRequest(folders, device="android-emulated", data="none", out=tmp_path / "results", timeout_s=120.0)


def test_adbd_is_killed_in_the_middle_and_the_rows_before_it_are_kept(start_phone, asked, monkeypatch):
    monkeypatch.setattr(_remote, "PATIENCE_S", 5.0)
    phone = start_phone(warm=True)
    monkeypatch.setattr(devices, "load", lambda name, settings: phone.device())

    def kill(what, share):
        if what == "first start of m/two@1":
            phone.stand_in.stop()

    started = time.monotonic()
    stopped = bench(asked, progress=kill)
    assert time.monotonic() - started < 240
    assert stopped.unreachable is not None
    assert "USB debugging" in stopped.unreachable.hint
    rows = {row.variant.artifact: row for row in stopped.summary.rows}
    assert rows["m/one"].cold is not None
    assert rows["m/two"].failure.reason == "connection lost"
    assert phone.gone()
    assert any("was not removed" in line and "edgeseg device clean android" in line for line in phone.told)

    phone.stand_in.start()
    again = bench(BenchRequest(**{**asked.__dict__, "resume": True}))
    assert again.path == stopped.path
    assert again.summary.stopped == session.EMULATED
    assert all(row.cold is not None and row.failure is None for row in again.summary.rows)
    assert phone.left() == []


def test_adbd_comes_back_and_the_run_goes_on(start_phone, asked, monkeypatch):
    phone = start_phone(warm=True)
    monkeypatch.setattr(devices, "load", lambda name, settings: phone.device())
    timers = []

    def kill(what, share):
        if what == "first start of m/two@1" and not timers:
            phone.stand_in.stop()
            timers.append(threading.Timer(4, phone.stand_in.start))
            timers[0].start()

    result = bench(asked, progress=kill)
    timers[0].join()
    assert result.unreachable is None
    assert all(row.cold is not None and row.failure is None for row in result.summary.rows)


@pytest.mark.parametrize(
    ("extra", "message", "hint"),
    [
        (f'mount -t tmpfs -o size=3m,uid=2000,mode=771 none "{TMP}"', "No space left on device", "make room on the phone"),
        (f'mount -t tmpfs -o mode=755 none "{TMP}"', "nothing can be written to /data/local/tmp/edgeseg-.*Permission denied", "adb shell"),
        (f'mount -t tmpfs -o ro none "{TMP}"', "nothing can be written to .*(Read-only|Permission denied)", "adb shell"),
        (f'mount -t tmpfs -o noexec,uid=2000,mode=771 none "{TMP}"', "programs cannot be run from .*Permission denied", "--device browser"),
        ('sed -i s/arm64-v8a/x86_64/ "$root/standin/told/properties"', "is x86_64; what is pushed runs on arm64-v8a only", "--device browser"),
        ('sed -i s/sdk=34/sdk=21/ "$root/standin/told/properties"', "7 or newer is needed", "--device browser"),
    ],
)  # fmt: skip
def test_a_phone_that_cannot_be_used(start_phone, extra, message, hint):
    phone = start_phone(extra=extra)
    device = phone.device()
    with pytest.raises(EdgesegError, match=message) as caught:
        device.probe()
    assert hint in caught.value.hint
    device.close()


def test_a_worker_that_hangs_is_ended_there_too_and_nothing_is_left(start_phone, asked):
    phone = start_phone(warm=True)
    device = phone.device()
    item = Item("one", "null", "model.null", SPEC)
    worker = device.start([(item, asked.artifacts[0])], [np.zeros((8, 8, 3), np.uint8)], timeout_s=120)
    (loaded,) = worker.ask(Command("load", "one"), timeout_s=60)
    assert isinstance(loaded, Loaded)
    assert phone.workers()
    with pytest.raises(WorkerLost, match="no answer within 3 s"):
        list(worker.ask(Command("measure", "one", runs=10**9), timeout_s=3))
    assert phone.gone()
    device.close()
    assert phone.left() == []


def test_keep_and_clean(start_phone, asked):
    phone = start_phone()
    device = phone.device(keep=True)
    device.probe()
    device.close()
    (folder,) = phone.left()
    again = phone.device(keep=True)
    again.probe()
    assert dict(again.pushed) == {}, "the second run pushes nothing"
    other = phone.device()
    other.probe()
    worker = again.start([], [], timeout_s=120)
    other.close()
    assert phone.left() == [folder], "a folder that another run uses stays"
    assert any("another run uses it" in line for line in phone.told)
    assert again.clean() == f"/data/local/tmp/{folder}"
    assert phone.left() == []
    assert phone.gone()
    worker.close()
    again.close()


def test_heat_that_comes_on(start_phone, asked, monkeypatch):
    phone = start_phone(warm=True)
    monkeypatch.setattr(devices, "load", lambda name, settings: phone.device())

    def heat(what, share):
        if what == "first start of m/two@1":
            told = phone.stand_in.told(_standin_phone.THROTTLING)
            told.write_text(told.read_text().replace("Thermal Status: 0", "Thermal Status: 3"))

    result = bench(asked, progress=heat)
    for row in result.summary.rows:
        assert [label.name for label in row.labels] == ["throttled"]
        assert row.state == "!"


def test_benchmark_model_of_another_processor_and_one_that_does_not_run(start_phone, asked, tmp_path, monkeypatch):
    phone = start_phone(warm=True)
    with pytest.raises(EdgesegError, match="is a program, and not for 64-bit Arm"):
        phone.device(benchmark_model=sys.executable).probe()
    broken = tmp_path / "benchmark_model"
    broken.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(300))
    files = artifact(tmp_path / "tflite", "file", "tflite")
    device = phone.device(benchmark_model=str(broken))
    item = Item("tool", "tflite", "model.null", SPEC, options={"accelerator": "benchmark_model"})
    worker = device.start([(item, files)], [], timeout_s=120)
    (answer,) = worker.ask(Command("load", "tool"), timeout_s=60)
    assert "benchmark_model gave no result" in answer.reason
    assert "android_aarch64_benchmark_model" in answer.hint
    worker.close()
    device.close()
    assert phone.left() == []


def edgeseg(folder, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "edgeseg", *map(str, words)], cwd=folder, capture_output=True, text=True,
        timeout=1800, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


BENCHMARK_MODEL = r"""#!/system/bin/sh
for word in "$@"; do case "$word" in --num_runs=*) n=${word#*=};; --graph=*) g=${word#*=};; esac; done
[ -s "$g" ] || { echo "ERROR: Could not open '$g'."; exit 1; }
echo "INFO: STARTING!"
echo "INFO: Graph: [$g]"
echo "INFO: count=1 curr=17235"
echo "INFO: count=$n first=14634 curr=14601 min=14512 max=15324 avg=14655.3 std=91"
echo "INFO: Inference timings in us: Init: 5123, First inference: 17235, Warmup (avg): 17235, Inference (avg): 14655.3"
echo "INFO: Memory footprint delta from the start of the tool (MB): init=4.51562 overall=6.20312"
"""


def test_the_command_line_with_all_runtimes(start_phone, tmp_path):
    """Masks of the real Arm kernels through adb; records are stamped, and no time is shown."""
    phone = start_phone()
    edgeseg(tmp_path, "export", "--target", ",".join(BACKENDS))
    (tmp_path / "benchmark_model").write_text(BENCHMARK_MODEL)
    folder = tmp_path / "exports/pphumanseg-lite"
    artifacts = sorted(path for path in folder.iterdir() if path.name.partition("-")[0] in BACKENDS)
    words = ["--device", "android", "--host", phone.stand_in.serial, "--data", "sample:1", "--timeout", "300", "--json"]
    done = edgeseg(tmp_path, "bench", *artifacts, *words, "--cores", "big", "--benchmark-model", "benchmark_model")
    (document,) = json.loads(done.stdout)["benches"]
    rows = {row["variant"]: row for row in document["rows"]}
    assert len(rows) == len(BACKENDS) + 1
    for name, row in rows.items():
        print(name, row["flipped_share"])
        assert row["emulated"] is True
        assert not row["failure"]
        assert [key for key, value in row.items() if key.endswith("_ms") and value is not None] == []
        if "benchmark_model" in name:
            assert row["flipped_share"] is None
        else:
            assert row["flipped_share"] <= 0.001
    about = json.loads((tmp_path / document["results"]).parent.joinpath("device.json").read_text())
    assert about["emulated"] is True
    assert about["board"] == "edgeseg Stand-in phone"
    assert about["abi"] == "arm64-v8a"
    assert about["android"] == "14 (API 34)"
    assert about["thermal_status"] == "none"
    assert about["battery"] == "83 %, 29.4 °C, on USB power"
    assert about["screen"] == "on"
    assert about["cores_used"] == "big"
    assert about["clusters"].count(" GHz") == 2
    assert phone.left() == []
    verified = edgeseg(tmp_path, "verify", folder / "tflite-fp32", *words[:6], "--json")
    assert json.loads(verified.stdout)["artifacts"][0]["passed"] is True
    assert phone.left() == []


def test_a_page_through_the_cable(start_phone, tmp_path):
    """A browser that has no other network than the phone's loopback measures, isolated, without a certificate."""
    chromium = shutil.which("chromium")
    if chromium is None or not npm.is_installed(runtimes.BUNDLE) or importlib.util.find_spec("playwright") is None:
        pytest.skip(f"needs chromium, playwright and the page's runtimes: {runtimes.BUNDLE.install_command}")
    from playwright.sync_api import sync_playwright

    phone = start_phone()
    inside = tmp_path / "chromium"
    inside.write_text(f'#!/bin/sh\nexec {shlex.join([*phone.stand_in.inside(), chromium])} "$@"\n')
    inside.chmod(0o755)
    edgeseg(tmp_path, "export", "--target", "onnx")
    words = [
        "bench",
        "exports/pphumanseg-lite/onnx-fp32",
        "--device",
        "browser",
        "--usb",
        "--host",
        phone.stand_in.serial,
    ]
    words += ["--data", "sample:2", "--budget", "3", "--threads", "2", "--timeout", "120", "--json"]
    bench_command = subprocess.Popen(
        [sys.executable, "-m", "edgeseg", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        asked = phone.stand_in.folder / "tmp/am"
        until = time.monotonic() + 120
        while not asked.exists():
            assert bench_command.poll() is None, bench_command.communicate()
            assert time.monotonic() < until, "the page was not opened on the phone"
            time.sleep(0.2)
        words = asked.read_text().split()
        assert words[:4] == ["start", "-a", "android.intent.action.VIEW", "-d"]
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=str(inside), args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            page.goto(words[4])
            page.wait_for_selector("body[data-state=ready]", timeout=60_000)
            assert page.evaluate("[self.isSecureContext, self.crossOriginIsolated]") == [True, True]
            page.click("#start")
            page.wait_for_selector("body[data-state=done], body[data-state=failed]", timeout=240_000)
            browser.close()
        told, complained = bench_command.communicate(timeout=120)
    finally:
        bench_command.kill()
    assert bench_command.returncode == 0, complained
    (row,) = json.loads(told)["benches"][0]["rows"]
    assert row["threads"] == 2
    assert row["flipped_share"] == 0
    assert row["median_ms"] > 0
    assert "reaches the page through the cable" in complained
    reverses = subprocess.run(
        ["adb", "-s", phone.stand_in.serial, "reverse", "--list"], capture_output=True, text=True, check=True
    )
    assert "tcp:" not in reverses.stdout


def test_adbd_is_reached_from_nowhere_else(start_phone):
    """It listens on every interface of a network that has only a loopback: nothing of this machine's listens for it."""
    phone = start_phone()
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    assert not any(line.split()[3].endswith(":5555") for line in listening.splitlines())
    (ours,) = [
        line.split()[3] for line in listening.splitlines() if line.split()[3].endswith(f":{phone.stand_in.port}")
    ]
    assert ours == phone.stand_in.serial
    inside = subprocess.run(
        [*phone.stand_in.inside(), "ss", "-Hltn"], capture_output=True, text=True, check=True
    ).stdout
    assert any(line.split()[3].endswith(":5555") for line in inside.splitlines())
    vsock = subprocess.run(["ss", "-Hl", "--vsock"], capture_output=True, text=True, check=False)
    assert ":5555" not in vsock.stdout
