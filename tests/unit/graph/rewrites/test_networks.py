"""Whole networks: some of other kinds than ConnectNet, and ConnectNet itself with all of its shuffles."""

from __future__ import annotations

import pytest

from edgeseg.architectures import pphumanseg_lite
from edgeseg.backends import names
from edgeseg.graph import rewriting
from edgeseg.graph.rewriting import Target
from tests.unit.graph.rewrites.networks import mobilenet, overlapping, unet
from tests.unit.graph.rewrites.sketch import difference, ops, spec


@pytest.mark.parametrize("network", [unet, overlapping, mobilenet])
@pytest.mark.parametrize("backend", names())
def test_other_networks_keep_their_scores(network, backend):
    model, output = network(48, 64)
    for chosen in (None, rewriting.names()):
        after = rewriting.rewrite(model, spec(output, shape=(64, 48)), Target(backend), chosen, without=rewriting.HEADS)
        assert difference(model, after.model) <= 1e-5


@pytest.mark.parametrize("backend", names())
def test_connectnet_keeps_its_scores(backend, connectnet_weights):
    model, its_spec = pphumanseg_lite.build(connectnet_weights, size=(102, 62))
    after = rewriting.rewrite(model, its_spec, Target(backend), without=rewriting.HEADS)
    assert difference(model, after.model) <= 1e-5


def test_connectnet_has_no_shuffle_left(connectnet_weights):
    model, its_spec = pphumanseg_lite.build(connectnet_weights)
    after = rewriting.rewrite(model, its_spec, Target("tflite"))
    assert "unshuffle x12" in after.applied
    assert not {"Transpose", "Reshape", "Split"} & set(ops(after.model))
