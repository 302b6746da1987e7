"""The report in a real browser: what is clicked, hovered and dragged does what it says, without a network."""

import itertools
import re
import shutil

import pytest

from edgeseg.flows.report import ReportRequest, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MODELS = {
    "onnx-fp32": (12.0, 0.93),
    "openvino-fp32": (9.0, 0.93),
    "openvino-int8": (5.0, 0.91),
    "tflite-fp16": (11.0, 0.92),
}


@pytest.fixture
def page_file(recorder, tmp_path, need):
    need("plotly", "pip install 'edgeseg[report]'")
    recorder.session(MODELS, masks=True, sustained={"onnx-fp32": (12, 13, 15), "openvino-fp32": (9, 9, 9)})
    out = tmp_path / "report.html"
    report(ReportRequest((recorder.folder,), html=out))
    return out


@pytest.fixture
def browser(need):
    need("playwright", "pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt install chromium")
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]) as started,
    ):
        yield started


def opened(browser, file, **context):
    """The page in a context that has no network; anything that it asks for outside itself is an error."""
    page = browser.new_context(offline=True, **context).new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: re.match(r"file:|data:|blob:", request.url) or page.errors.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=30_000)
    return page


def test_page_is_one_file_that_names_no_other(page_file):
    text = page_file.read_text()
    head = text.split('id="plotly"')[0]
    assert not re.search(r'(?:src|href)="(?!data:)', head)
    assert len(text) < 3_000_000


def test_sort_hover_slider_and_choice(browser, page_file):
    page = opened(browser, page_file, viewport={"width": 1400, "height": 1000})

    def names():
        return page.eval_on_selector_all(
            "table.results tbody tr", "rows => rows.map(row => row.dataset.variant.slice(2, -2))"
        )

    assert names() == list(MODELS)
    page.click("thead button:text-is('median ms')")
    assert names() == sorted(MODELS, key=lambda name: MODELS[name][0])
    assert page.get_attribute("thead th:has(button:text-is('median ms'))", "aria-sort") == "ascending"
    page.click("thead button:text-is('median ms')")
    assert names() == sorted(MODELS, key=lambda name: -MODELS[name][0])

    assert "◆" in page.inner_text("tr[data-variant='m/openvino-int8@1'] th")
    assert "◆" not in page.inner_text("tr[data-variant='m/tflite-fp16@1'] th")

    page.locator("#pareto-0 .scatterlayer path.point").nth(1).hover(force=True)
    page.wait_for_selector("#pareto-0 .hoverlayer .hovertext")
    assert "m/openvino-fp32@1" in page.text_content("#pareto-0 .hoverlayer .hovertext")

    clip = "element => getComputedStyle(element).clipPath"
    before = page.eval_on_selector("figure:not([hidden]) img.artifact", clip)
    page.locator(".slide input").fill("80")
    assert page.eval_on_selector("figure:not([hidden]) img.artifact", clip) != before
    assert "80%" in page.eval_on_selector("figure:not([hidden]) img.artifact", clip)

    page.select_option(".gallery select", "m/openvino-int8")
    shown = page.eval_on_selector_all("figure:not([hidden])", "figures => figures.map(one => one.dataset.artifact)")
    assert shown == ["m/openvino-int8"]
    assert page.errors == []


def test_the_long_run_shows_latency_temperature_and_clock(browser, page_file):
    page = opened(browser, page_file)
    text = page.text_content("#sustained-0")
    assert all(title in text for title in ("median ms", "°C", "GHz", "minutes"))
    assert page.locator("#sustained-0 .scatterlayer .trace").count() == 3 * 2
    assert page.errors == []


def test_nothing_sticks_out_and_text_is_readable(browser, page_file):
    for scheme, width in itertools.product(("light", "dark"), (390, 1400)):
        page = opened(browser, page_file, viewport={"width": width, "height": 900}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.eval_on_selector("tbody th", "cell => cell.offsetWidth") >= 110
        paper, ink = (
            page.evaluate(f"getComputedStyle(document.body).{name}.match(/[\\d.]+/g).slice(0, 3).map(Number)")
            for name in ("backgroundColor", "color")
        )
        assert (sum(paper) > 600) == (scheme == "light")
        assert abs(sum(paper) - sum(ink)) > 500
        assert page.locator(".plot svg.main-svg").count() >= 3
        assert page.errors == []
        page.context.close()
