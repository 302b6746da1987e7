"""The bundled network: what its card promises, and that the sample set shows a network run wrongly."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from edgeseg import checkpoints
from edgeseg.architectures import pphumanseg_lite
from edgeseg.assets import bundled
from edgeseg.data.dataset import open_dataset
from edgeseg.data.preprocess import to_input, to_mask
from edgeseg.metrics.quality import Quality, measure

SIZE = (256, 144)


def header():
    content = bundled().read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


@lru_cache(maxsize=1)
def network():
    import onnxruntime

    weights = checkpoints.read(bundled()).weights
    model, spec = pphumanseg_lite.build(weights, size=SIZE)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]), spec


def score(data, *, change=lambda tensor: tensor, mask_change=lambda mask: mask, spec_change=None):
    session, spec = network()
    told = replace(spec, **(spec_change or {}))
    quality = Quality(2)
    for sample in open_dataset(data).stream():
        (output,) = session.run(None, {spec.input_name: change(to_input(sample.image, told))})
        mask = mask_change(to_mask(output, spec, *sample.mask.shape))
        quality.add(measure(sample.name, sample.mask, mask, 2))
    return quality.scores()


def test_is_small_and_says_what_it_is():
    assert bundled().stat().st_size <= 700_000
    told = header().pop("__metadata__")
    assert told["architecture"] == "pphumanseg-lite"
    assert told["input_size"] == "256x144"
    assert told["classes"] == "background,person"
    assert told["license"] == "Apache-2.0"
    card = bundled().with_name("MODEL_CARD.md").read_text()
    assert told["val_miou"] in card


def test_holds_only_what_the_network_uses():
    weights = checkpoints.read(bundled()).weights
    assert len(weights) == 240
    assert sum(array.size for array in weights.values()) == 137_466


def test_finds_people_in_the_sample_set():
    scores = score("sample:24")
    assert scores.miou > 0.92
    assert scores.connectivity > 0.4


@pytest.mark.parametrize(
    ("fault", "arguments", "points"),
    [
        ("channels swapped", {"spec_change": {"color": "bgr"}}, 1.0),
        ("not normalised", {"spec_change": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}}, 3.0),
        ("raw 0..255", {"spec_change": {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}}, 20.0),
        ("input upside down", {"change": lambda tensor: np.ascontiguousarray(tensor[:, :, ::-1])}, 20.0),
        ("mask three pixels aside", {"mask_change": lambda mask: np.roll(mask, 3, axis=1)}, 0.5),
    ],
)
def test_the_sample_set_shows_a_network_run_wrongly(fault, arguments, points):
    right, wrong = score("sample:16").miou, score("sample:16", **arguments).miou
    assert 100 * (right - wrong) > points, fault


@pytest.mark.slow
def test_keeps_its_score_on_200_samples():
    assert score("sample:200").miou >= 0.96


@pytest.mark.slow
def test_keeps_its_score_on_photos(shared):
    scores = score(str(shared / "data" / "portraits" / "val.txt"))
    assert scores.miou >= 0.96
    assert scores.connectivity >= 0.55
