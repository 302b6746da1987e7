"""What holds for each rewrite: it changes nothing but the way, on random networks, in float32 and in float64."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeseg.graph import rewriting
from edgeseg.graph.rewriting import Target
from tests.unit.graph.rewrites.sketch import TARGET, decoders, difference, shuffle_networks, spec

QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", [*rewriting.names(), "all"])
@QUICK
@given(drawn=st.one_of(shuffle_networks(), decoders()), double=st.booleans(), block=st.sampled_from([8, 16]))
def test_outputs_stay(name, drawn, double, block):
    sketch, output = drawn
    before = sketch.model(output, double=double)
    chosen = rewriting.names() if name == "all" else [name]
    for backend in ("onnx", "openvino", "tflite"):
        after = rewriting.rewrite(before, spec(output), Target(backend, "fp32", block), chosen)
        assert difference(before, after.model) <= (1e-10 if double else 1e-5)


@QUICK
@given(drawn=st.one_of(shuffle_networks(), decoders()), data=st.data())
def test_what_is_an_output_or_has_other_readers_keeps_its_values(drawn, data):
    sketch, output = drawn
    inner = data.draw(st.sampled_from([node.output[0] for node in sketch.nodes[:-1]]))
    before = sketch.model(output, inner)
    after = rewriting.rewrite(before, spec(output), TARGET, rewriting.names())
    assert difference(before, after.model) <= 1e-5


@QUICK
@given(drawn=decoders())
def test_shared_weights_are_not_changed_for_others(drawn):
    sketch, output = drawn
    first = next(node for node in sketch.nodes if node.op_type == "Conv" and node.input[0] == "image")
    shared = sketch.op("Conv", ["image", *first.input[1:]], sketch.widths[first.output[0]], pads=[1, 1, 1, 1])
    before = sketch.model(output, shared)
    assert difference(before, rewriting.rewrite(before, spec(output), TARGET, rewriting.names()).model) <= 1e-5
