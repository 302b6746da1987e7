"""Which rewrites there are, how they are chosen, and which graphs are left alone."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from edgeseg.core.errors import EdgesegError
from edgeseg.graph import rewriting
from edgeseg.graph.net import Net
from edgeseg.graph.rewriting import Rewrite, Target
from tests.unit.graph.rewrites.sketch import Sketch, spec


def test_every_file_is_a_rewrite_with_a_place_in_the_order():
    orders = []
    for name in rewriting.names():
        rewrite = rewriting.load(name)
        assert isinstance(rewrite, Rewrite)
        orders.append(rewrite.order)
    assert orders == sorted(set(orders))


def test_an_unknown_name_is_refused_with_the_nearest_known_one():
    sketch = Sketch()
    x = sketch.conv("image", 2)
    with pytest.raises(EdgesegError, match="unknown rewrite 'unshufle'") as caught:
        rewriting.rewrite(sketch.model(x), spec(x), Target("onnx"), ["unshufle"])
    assert "did you mean 'unshuffle'" in caught.value.hint


def test_no_names_leave_the_graph_as_it_is():
    sketch = Sketch()
    x = sketch.conv(sketch.conv("image", 18), 2, kernel=1)
    model = sketch.model(x)
    assert rewriting.rewrite(model, spec(x), Target("onnx"), ()).model is model


def test_what_is_left_out_is_not_applied():
    sketch = Sketch()
    x = sketch.resize(sketch.conv("image", 2), 24, 20)
    suited = rewriting.rewrite(sketch.model(x), spec(x), Target("openvino"))
    assert "difference-head" in suited.applied
    raw = rewriting.rewrite(sketch.model(x), spec(x), Target("openvino"), without=rewriting.HEADS)
    assert "difference-head" not in raw.applied


def test_targets_profit_from_different_rewrites():
    assert "align" in rewriting.suited(Target("onnx"))
    assert "align" not in rewriting.suited(Target("openvino"))
    assert "split-concat" not in rewriting.suited(Target("onnx", "int8"))


def test_the_given_model_is_not_changed():
    sketch = Sketch()
    x = sketch.conv(sketch.conv("image", 18), 2, kernel=1)
    model = sketch.model(x)
    before = model.SerializeToString(deterministic=True)
    assert rewriting.rewrite(model, spec(x), Target("onnx"), rewriting.names()).applied
    assert model.SerializeToString(deterministic=True) == before


def test_a_graph_with_control_flow_is_left_alone():
    sketch = Sketch()
    x = sketch.conv(sketch.conv("image", 18), 2, kernel=1)
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", [x], ["inner"])], "branch", [], [value])
    yes = sketch.constant(True)
    y = sketch.op("If", [yes], 2, then_branch=branch, else_branch=branch)
    model = sketch.model(y)
    assert rewriting.rewrite(model, spec(y), Target("onnx"), rewriting.names()).model is model


def test_a_net_sorts_sweeps_and_names():
    sketch = Sketch()
    x = sketch.conv("image", 4)
    sketch.conv("image", 7)  # nobody reads it
    net = Net(sketch.model(sketch.relu(x)))
    net.nodes.reverse()
    model = net.model()
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu"]
    assert len(model.graph.initializer) == 2
    assert net.fresh(x) == f"{x}.2"
    onnx.checker.check_model(model, full_check=True)
