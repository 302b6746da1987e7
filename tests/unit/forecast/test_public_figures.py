"""The forecast against latencies that others have published; the figures and their sources are in ``tests/benchmarks``."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from edgeseg.forecast import interval, roofline
from edgeseg.forecast.interval import UNSEEN

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def public():
    return load("public_figures")


@pytest.fixture(scope="module")
def bench(public):
    return load("bench_forecast")


@pytest.fixture(scope="module")
def nets(bench):
    return bench.networks()


def test_the_networks_are_those_of_their_papers(nets):
    macs = {name: sum(one.macs for one in work) for name, work in nets.items()}
    assert macs["MobileNet v1"] == pytest.approx(569e6, rel=0.005), "569 million in the paper"
    assert macs["MobileNet v2"] == pytest.approx(300e6, rel=0.005), "300 million in the paper"
    assert macs["MobileNet v3 Large"] == pytest.approx(219e6, rel=0.02)
    assert macs["MobileNet v3 Small"] == pytest.approx(56e6, rel=0.03)
    weights = {name: sum(one.weights for one in work) for name, work in nets.items()}
    assert weights["MobileNet v1"] == pytest.approx(4.2e6, rel=0.02)
    assert weights["MobileNet v2"] == pytest.approx(3.4e6, rel=0.03)


def test_the_efficiencies_in_use_are_the_fit(bench, public, nets):
    fitted = bench.fit(public.FITTED, nets)
    for name in bench.NAMES:
        assert getattr(roofline.FITTED, name) == pytest.approx(getattr(fitted, name), rel=0.01), name
    errors = bench.errors(public.FITTED, nets, roofline.FITTED)
    assert bench.spread(errors) < 0.18, "of the figures that it was fitted to"


@pytest.mark.parametrize("left_out", ["runtime", "network", "precision"])
def test_the_interval_is_that_of_figures_left_out_of_the_fit(bench, nets, left_out):
    """An interval from the fit's own errors would be too narrow: 0.17 against 0.20 to 0.33."""
    errors = bench.left_out(nets, bench.GROUPS[left_out])
    assert bench.spread(errors) <= UNSEEN["pi4"] + 0.005
    wide = interval.band("pi4", "onnx f32", [])
    inside = [wide.low <= math.exp(error) <= wide.high for error in errors]
    assert sum(inside) / len(inside) >= 0.95


def test_networks_and_phones_that_no_fit_has_seen_lie_within_the_interval(bench, public, nets):
    wide = interval.band("pi4", "onnx f32", [])
    known = [one for one in public.UNSEEN if one.network in nets]
    assert len(known) == 8
    for one, error in zip(known, bench.errors(known, nets, roofline.FITTED), strict=True):
        assert wide.low <= math.exp(error) <= wide.high, one.name


def test_connectnet_on_a_cortex_a76_lies_within_the_interval(bench, public, connectnet_weights, tmp_path):
    """The only published latencies of this network on such a core: Snapdragon 855, and an older core besides."""
    from edgeseg.architectures import pphumanseg_lite
    from edgeseg.backends.onnx import BACKEND

    nets = {}
    for width, height in ((398, 224), (192, 192)):
        model, spec = pphumanseg_lite.build(connectnet_weights, size=(width, height), head="logits")
        folder = tmp_path / f"{width}"
        folder.mkdir()
        BACKEND.convert(model, spec, "fp32", folder)
        nets[f"ConnectNet {width}x{height}"] = BACKEND.work(folder / "model.onnx", spec, {})
    known = [one for one in public.UNSEEN if one.network in nets]
    assert len(known) == 3
    wide = interval.band("pi5", "onnx f32", [])
    for one, error in zip(known, bench.errors(known, nets, roofline.FITTED), strict=True):
        print(f"{one.name}: {one.ms} ms, x{math.exp(error):.2f} of the forecast")
        assert wide.low <= math.exp(error) <= wide.high, one.name
