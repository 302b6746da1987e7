"""`bench --device browser` in Debian's Chromium: a phone's screen, our page, the real runtimes."""

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core import npm
from edgeseg.core.errors import EdgesegError
from edgeseg.devices.browser import Phone, Reception, reception, runtimes
from edgeseg.flows.bench import phones
from edgeseg.flows.bench.phones import Door, Host, bench_phones
from edgeseg.flows.bench.session import BenchRequest, bench
from edgeseg.flows.export import ExportRequest, export
from edgeseg.flows.model import ModelRequest
from edgeseg.flows.parity import Gate
from edgeseg.flows.quantize import QuantizeRequest, quantize
from edgeseg.transports import visitor
from tests.conftest import skip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]  # fmt: skip
NARROW = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def installed():
    for package in ("aiohttp", "cryptography", "segno", "playwright"):
        if importlib.util.find_spec(package) is None:
            skip("browser", f"{package} is not installed: pip install 'edgeseg[browser]' playwright")
    if not npm.is_installed(runtimes.BUNDLE):
        skip("browser", f"the page's runtimes are not here: {runtimes.BUNDLE.install_command}")
    if CHROMIUM is None:
        skip("browser", "no Chromium: apt install chromium")


@pytest.fixture(scope="module")
def artifacts(installed, connectnet_weights, tmp_path_factory):
    """Two artifacts of one network with a small input."""
    folder = tmp_path_factory.mktemp("phones")
    np.savez(folder / "weights.npz", **connectnet_weights)
    export(
        ExportRequest(
            ModelRequest(folder / "weights.npz", size=(96, 64)),
            targets=("onnx", "tflite"),
            data="sample:2",
            out=folder / "exports",
        )
    )
    return folder / "exports/pphumanseg-lite/onnx-fp32", folder / "exports/pphumanseg-lite/tflite-fp32"


@pytest.fixture(scope="module")
def browser(installed):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as started:
        yield started


class Run:
    """A bench that waits for phones, in a thread."""

    def __init__(self, request, door):
        self.results, self.error, self.shares = [], None, []
        self.link = None
        self._invited = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(request, door), daemon=True)
        self._thread.start()
        assert self._invited.wait(30)

    def _run(self, request, door):
        def invite(invitation, left_out):
            self.invitation, self.link = invitation, invitation.link
            self._invited.set()

        host = Host(invite, progress=lambda phone, what, share: self.shares.append(share))
        try:
            self.results += bench_phones(request, door, host)
        except EdgesegError as error:
            self.error = error
        finally:
            self._invited.set()

    def join(self):
        self._thread.join(90)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.results


@pytest.fixture
def started(artifacts, tmp_path):
    def run(door=None, **fields):
        door = door or Door(wait_s=60)
        fields = {"budget_s": 1.0, "data": "sample:2", "timeout_s": 30.0, "artifacts": artifacts, **fields}
        return Run(BenchRequest(device="browser", out=tmp_path / "results", **fields), door)

    return run


@contextmanager
def phone(browser, **context):
    """A page in a context of its own; what it logs as errors or asks of others is kept."""
    opened = browser.new_context(viewport=NARROW, **context)
    page = opened.new_page()
    page.wrong = []
    page.bytes = {}
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on(
        "request",
        lambda one: re.match(r"https?://(127\.0\.0\.1|localhost)[:/]|blob:", one.url) or page.wrong.append(one.url),
    )
    page.on("response", lambda one: page.bytes.setdefault(one.url, one))
    try:
        yield page
    finally:
        opened.close()


def begin(page, run):
    page.goto(run.link)
    page.wait_for_selector("body[data-state=ready]")
    page.click("#start")


def ends(page, state="done"):
    page.wait_for_selector("body[data-state=done], body[data-state=failed]", timeout=90_000)
    assert page.get_attribute("body", "data-state") == state, page.inner_text("body")


def test_from_start_to_the_result_table(browser, started):
    run = started()
    with phone(browser) as page:
        page.goto(run.link)
        page.wait_for_selector("body[data-state=ready]")
        assert run.link.split("#")[1] not in page.url, "the token leaves the address bar"
        assert "onnx-fp32" in page.inner_text("#artifacts")
        weight = sum(
            len(one.body()) for url, one in page.bytes.items() if "/runtime/" not in url and "/api/" not in url
        )
        page.click("#start")
        ends(page)
        assert page.wrong == []
        rows = page.locator("#rows tr")
        assert rows.count() == 2
        for row in rows.all():
            assert float(row.locator("td").nth(3).inner_text()) >= 99.9
        assert page.locator("#gallery canvas").count() == 3, "the photo and two masks"
        weight += sum(
            len(one.body()) for url, one in page.bytes.items() if re.search(r"/(frame\.\w+|onnx\.js|tflite\.js)$", url)
        )
        assert 20_000 < weight < 200_000
        (result,) = run.join()
        page.click("#camera-start")  # the server has ended
        page.wait_for_selector("#stage[data-live=yes]:not([hidden])", timeout=30_000)
        assert page.wrong == []
    session = result.summary.session
    assert re.fullmatch(r"browser-[a-z0-9-]+-[0-9a-f]{4}", session.device)
    assert session.hello.device["isolated"] == "yes"
    for row in result.summary.rows:
        assert row.failure is None
        assert row.latency.samples >= 2
        assert row.agreement.flipped_share <= 0.001, "the phone's masks are the reference's masks"
        assert row.prepare_ns > 0
        assert row.finish_ns > 0
        assert row.cold.loaded.load_ns > 0
    assert "onnxruntime-web" in result.summary.rows[0].cold.loaded.runtime
    assert "@litertjs/core" in result.summary.rows[1].cold.loaded.runtime
    assert run.shares == sorted(run.shares)


@pytest.mark.slow
def test_frames_of_bytes_and_integers(browser, installed, connectnet_weights, started, tmp_path):
    """What takes a camera's bytes, in float and in int8 inside, gives the host's masks; int8 tensors LiteRT.js does not know."""
    np.savez(tmp_path / "weights.npz", **connectnet_weights)
    model = ModelRequest(tmp_path / "weights.npz", size=(96, 64))
    out = tmp_path / "bytes"
    export(ExportRequest(model, targets=("onnx", "tflite"), data="sample:2", out=out, frames=True))
    loose = Gate(min_agreement=0.0, max_miou_drop=1.0)  # random weights
    quantize(QuantizeRequest(model, ("onnx", "tflite"), "sample:4", data="sample:2", out=out, gate=loose, frames=True))
    whole = replace(model, name="whole")
    quantize(QuantizeRequest(whole, ("tflite",), "sample:4", data="sample:2", out=out, gate=loose, io="int8"))
    names = [out / f"pphumanseg-lite/{name}" for name in ("onnx-fp32", "tflite-fp32", "onnx-int8", "tflite-int8")]
    with pytest.raises(EdgesegError, match="whole/tflite-int8 does not run in a browser"):
        started(artifacts=(out / "whole/tflite-int8",)).join()
    run = started(artifacts=tuple(names))
    with phone(browser) as page:
        begin(page, run)
        ends(page)
        assert page.wrong == []
    (there,) = run.join()
    here = bench(BenchRequest(tuple(names), data="sample:2", budget_s=0.5, out=tmp_path / "here"))
    for far, near in zip(there.summary.rows, here.summary.rows, strict=True):
        assert far.failure is None, far.failure
        assert far.agreement.flipped_share == pytest.approx(near.agreement.flipped_share, abs=0.005)


@pytest.mark.slow
def test_the_real_command(browser, artifacts, tmp_path):
    """The address is on stderr, the table on stdout; an artifact that no browser runs is left out and named."""
    other = tmp_path / "exports/pphumanseg-lite/openvino-fp32"
    shutil.copytree(artifacts[0].parent, other.parent)
    document = json.loads((other.parent / "onnx-fp32/manifest.json").read_text())
    shutil.copytree(other.parent / "onnx-fp32", other)
    (other / "manifest.json").write_text(json.dumps({**document, "backend": "openvino"}))
    words = ["bench", "--device", "browser", "--budget", "1", "--data", "sample:2", "--json"]
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen(
        [sys.executable, "-m", "edgeseg", *words],
        cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = [child.stderr.readline(), child.stderr.readline()]
        assert "openvino-fp32 does not run in a browser" in said[0]
        (link,) = re.findall(r"open (http://127\.0\.0\.1:\d+/#t=\S+) and tap Start", said[1])
        with phone(browser) as page:
            page.goto(link)
            page.wait_for_selector("body[data-state=ready]")
            page.click("#start")
            ends(page)
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0
    (bench,) = json.loads(out)["benches"]
    assert [row["state"] == "✗" for row in bench["rows"]] == [False, False]
    assert bench["device"].startswith("browser-")


@pytest.mark.slow
def test_https_with_threads(browser, started, monkeypatch):
    monkeypatch.setattr(reception, "lan_address", lambda: "127.0.0.1")
    run = started(Door(lan=True, wait_s=60), threads=(1, 2), data="none")
    assert run.link.startswith("https://127.0.0.1:")
    assert re.fullmatch(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", run.invitation.fingerprint)
    with phone(browser, ignore_https_errors=True) as page:
        begin(page, run)
        ends(page)
        assert page.wrong == []
    (result,) = run.join()
    assert [row.failure for row in result.summary.rows] == [None] * 4
    assert "2 threads" in result.summary.rows[1].cold.loaded.runtime


def test_an_untrusted_certificate_is_not_passed_over(browser, started, monkeypatch):
    monkeypatch.setattr(reception, "lan_address", lambda: "127.0.0.1")
    run = started(Door(lan=True, wait_s=2), data="none")
    with phone(browser) as page, pytest.raises(Exception, match="ERR_CERT_AUTHORITY_INVALID"):
        page.goto(run.link)
    with pytest.raises(EdgesegError, match="no page was opened within 2 s"):
        run.join()


@pytest.mark.slow
def test_without_isolation_there_is_one_thread_and_that_is_said(browser, started, monkeypatch):
    monkeypatch.setattr(phones, "Reception", functools.partial(Reception, isolated=False))
    run = started(threads=(1, 2), data="none")
    with phone(browser) as page:
        begin(page, run)
        ends(page)
        assert "could not be measured" in page.inner_text("#notice")
    (result,) = run.join()
    assert result.summary.session.hello.device["isolated"] == "no"
    one, two, *_ = result.summary.rows
    assert one.failure is None
    assert "this page has one thread" in two.failure.reason


@pytest.mark.slow
def test_a_slow_phone(browser, started):
    run = started(data="sample:1")
    with phone(browser) as page:
        page.goto(run.link)
        page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
        page.wait_for_selector("body[data-state=ready]")
        page.click("#start")
        ends(page)
    (result,) = run.join()
    assert all(row.failure is None for row in result.summary.rows)


def test_a_wrong_token_and_a_wrong_host(browser, started):
    run = started(Door(wait_s=6), data="none")
    with phone(browser) as page:
        page.goto(re.sub("#t=.*", "#t=guessed", run.link))
        ends(page, "failed")
        assert "refused this page (403" in page.inner_text("#notice")
    with phone(browser) as page:
        statuses = []
        page.on("response", lambda one: statuses.append(one.status))
        with pytest.raises(Exception, match="ERR_HTTP_RESPONSE_CODE_FAILURE"):
            page.goto(run.link.replace("127.0.0.1", "evil.example"))
        assert statuses == [421]
    with pytest.raises(EdgesegError, match="no page was opened"):
        run.join()


def test_a_closed_tab_is_a_failed_row(browser, started, monkeypatch):
    monkeypatch.setattr(visitor, "GRACE_S", 1.0)
    run = started(budget_s=60.0, timeout_s=8.0)
    with phone(browser) as page:
        begin(page, run)
        page.wait_for_selector("tr[data-finished=yes]", timeout=60_000)
        page.close(run_before_unload=True)
        (result,) = run.join()
    assert [row.state for row in result.summary.rows] == ["✗", "✗"]
    assert re.search("the page was closed|gave no answer|is gone", result.summary.rows[0].failure.reason)


@pytest.mark.slow
def test_a_page_that_is_loaded_again_goes_on(browser, started):
    run = started(budget_s=6.0)
    with phone(browser) as page:
        begin(page, run)
        page.wait_for_selector("tr[data-finished=yes]:nth-child(2)", timeout=60_000)
        page.reload()
        ends(page)
    (result,) = run.join()
    assert all(row.failure is None and row.agreement for row in result.summary.rows)


@pytest.mark.slow
def test_a_page_in_the_background_waits(browser, started):
    run = started(budget_s=3.0)
    hide = """yes => { Object.defineProperty(document, "hidden", {value: yes, configurable: true});
                       document.dispatchEvent(new Event("visibilitychange")); }"""
    with phone(browser) as page:
        begin(page, run)
        page.wait_for_selector("tr[data-finished=yes]", timeout=60_000)
        page.evaluate(hide, True)
        page.wait_for_timeout(500)
        before = len(run.shares)
        page.wait_for_timeout(1500)
        assert len(run.shares) - before <= 1, "nothing is measured that nobody looks at"
        page.evaluate(hide, False)
        ends(page)
    (result,) = run.join()
    assert all(row.failure is None for row in result.summary.rows)


@pytest.mark.slow
def test_two_phones_at_once(browser, started):
    run = started(budget_s=2.0)
    with phone(browser) as one, phone(browser) as other:
        begin(one, run)
        begin(other, run)
        ends(one)
        ends(other)
    results = run.join()
    assert len({result.summary.session.device for result in results}) == 2
    assert len({result.path for result in results}) == 2
    assert all(row.failure is None for result in results for row in result.summary.rows)


@pytest.mark.slow
def test_the_camera_demo(browser, started):
    run = started(Door(wait_s=20), data="none")
    with phone(browser) as page:
        page.goto(run.link)
        page.wait_for_selector("body[data-state=ready]")
        for artifact in ("0", "1"):
            page.select_option("#camera-artifact", artifact)
            page.click("#camera-start")
            page.wait_for_selector("#stage[data-live=yes]:not([hidden])", timeout=30_000)
            assert re.search(r"[\d.]+ frames / s, [\d.]+ ms a mask", page.inner_text("#rate"))
            page.select_option("#camera-effect", "colour")
            page.wait_for_function(
                """() => { const canvas = document.getElementById("live");
                           const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                           for (let i = 0; i < data.length; i += 4)
                               if (data[i] === 0 && data[i + 1] === 177 && data[i + 2] === 64) return true;
                           return false; }""",
                timeout=20_000,
            )
            page.click("#camera-start")
        assert page.wrong == []
    with pytest.raises(EdgesegError, match="no page was opened"):
        run.join()


@pytest.mark.slow
def test_webgpu(started, monkeypatch):
    """On a GPU that a program plays, which is measured here only because the test says so."""
    from playwright.sync_api import sync_playwright

    monkeypatch.setattr(Phone, "accelerators", property(lambda phone: ("webgpu",)))
    run = started(timeout_s=120.0, budget_s=0.5)
    gpu = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
    # A driver of its own would clash with the one of the other tests in the same thread.
    found = []

    def visit():
        with (
            sync_playwright() as driver,
            driver.chromium.launch(executable_path=CHROMIUM, args=[*gpu, "--use-vulkan=swiftshader"]) as browser,
            phone(browser) as page,
        ):
            begin(page, run)
            page.wait_for_selector("body[data-state=done], body[data-state=failed]", timeout=240_000)
            found.append(page.inner_text("#rows"))

    thread = threading.Thread(target=visit)
    thread.start()
    thread.join(280)
    assert found
    (result,) = run.join()
    assert result.summary.session.hello.device["webgpu_software"] == "yes"
    assert [row.variant.key.split("@")[1] for row in result.summary.rows] == ["1", "webgpu"] * 2
    for row in result.summary.rows:
        assert row.failure is None, row
        assert row.agreement.flipped_share <= 0.001


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_text_is_readable(browser, started, scheme):
    run = started(budget_s=0.5)
    with phone(browser, color_scheme=scheme) as page:
        page.goto(run.link)
        page.wait_for_selector("body[data-state=ready]")
        fits(page, scheme)
        page.click("#start")
        page.wait_for_selector("tr[data-finished=yes]", timeout=60_000)
        fits(page, scheme)
        ends(page)
        fits(page, scheme)
    run.join()


def fits(page, scheme):
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    paper, ink = (
        page.evaluate(f"getComputedStyle(document.body).{name}.match(/[\\d.]+/g).slice(0, 3).map(Number)")
        for name in ("backgroundColor", "color")
    )
    assert (sum(paper) > 600) == (scheme == "light")
    assert abs(sum(paper) - sum(ink)) > 500
