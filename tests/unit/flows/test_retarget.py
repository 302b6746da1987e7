"""One choice of scales, another graph for each runtime: the integers that come out are the same."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import numpy_helper

from edgeseg import backends
from edgeseg.core.errors import GraphError
from edgeseg.core.spec import ModelSpec
from edgeseg.data.preprocess import to_input
from edgeseg.flows import retarget
from edgeseg.flows.choice import Choice
from edgeseg.flows.quantize import BLOCK, SPELLINGS
from edgeseg.graph import frames, rewriting
from edgeseg.graph.rewriting import Rewrite, Target
from edgeseg.quantization import ranges
from edgeseg.quantization.placement import place
from edgeseg.quantization.recipe import QuantizationRecipe
from edgeseg.quantization.simulation import session_of
from tests.unit.graph.rewrites.sketch import Sketch, spec
from tests.unit.quantization.conftest import branching

SPEC = ModelSpec("branching", 48, 32, "image", "scores")
CARRYING = tuple(name for name in rewriting.names() if rewriting.load(name).carries)


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(1)
    return [random.normal(size=(1, 3, 32, 48)).astype(np.float32) for _ in range(2)]


@pytest.fixture(scope="module")
def choice(pictures):
    placed = place(branching())
    seen = ranges.watch(placed, ({"image": x} for x in pictures), len(pictures))
    scales = {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}
    return Choice(placed, scales, seen, QuantizationRecipe("branching", ()))


def run(model, pictures):
    session = session_of(model)
    return np.concatenate([session.run(None, {"image": x})[0] for x in pictures])


@pytest.mark.parametrize("backend", sorted(SPELLINGS))
@pytest.mark.parametrize("name", [*CARRYING, "all"])
def test_outputs_stay(choice, pictures, backend, name):
    names = CARRYING if name == "all" else (name,)
    target, spelling = Target(backend, "int8", BLOCK), SPELLINGS[backend]
    plain = retarget.retarget(choice, SPEC, target, spelling, ())
    found = retarget.retarget(choice, SPEC, target, spelling, names)
    before, after = run(plain.model, pictures), run(found.model, pictures)
    if "difference-head" in found.applied:
        before, after = (scores[:, 1] - scores[:, 0] for scores in (before, after))
    assert plain.applied == ()
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()


def test_what_is_applied_is_applied(choice):
    for backend, expected in {
        "onnx": {"group-pixels"}, "openvino": {"difference-head", "matmul-resize", "unrounded-pool"},
        "tflite": {"group-pixels"},
    }.items():  # fmt: skip
        own = Target(backend, "int8", BLOCK)
        names = rewriting.halves(None, Target(rewriting.ANY, "int8"), own)[1]
        found = retarget.retarget(choice, SPEC, own, SPELLINGS[backend], names)
        assert {name.split()[0] for name in found.applied} == expected


def test_padding_is_zeros_and_the_other_integers_are_those_of_the_choice():
    sketch = Sketch(channels=3)
    x = sketch.depthwise(sketch.relu(sketch.conv("image", 12)))
    output = sketch.conv(x, 2, kernel=1)
    placed = place(sketch.model(output))
    images = [np.random.default_rng(seed).normal(size=sketch.image).astype(np.float32) for seed in range(2)]
    seen = ranges.watch(placed, ({"image": image} for image in images), 2)
    scales = {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}
    chosen = Choice(placed, scales, seen, QuantizationRecipe("sketch", ()))
    plain, padded = (
        retarget.retarget(chosen, spec(output), Target("onnx", "int8", BLOCK), SPELLINGS["onnx"], names).model
        for names in ((), ("align",))
    )
    np.testing.assert_array_equal(run(plain, images), run(padded, images))
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} for model in (plain, padded)
    )
    for part, shape in (("weight", (16, 1, 3, 3)), ("bias", (16,))):
        assert after[f"{x}.{part}.q"].shape == shape
        np.testing.assert_array_equal(after[f"{x}.{part}.q"][:12], before[f"{x}.{part}.q"])
        assert not after[f"{x}.{part}.q"][12:].any()


def test_a_pooling_is_done_before_the_rounding(choice):
    found = retarget.retarget(choice, SPEC, Target("openvino", "int8"), SPELLINGS["openvino"], ("unrounded-pool",))
    makers = {name: node for node in found.model.graph.node for name in node.output}
    [pool] = [node for node in found.model.graph.node if node.op_type == "MaxPool"]
    assert makers[pool.input[0]].op_type == "Conv"


def test_every_rewrite_belongs_to_one_half():
    shared, own = Target(rewriting.ANY, "int8"), Target("onnx", "int8")
    before, behind = rewriting.halves(tuple(rewriting.names()), shared, own)
    assert set(before) | set(behind) == set(rewriting.names())
    assert not set(before) & set(behind)
    assert "unshuffle" in before


def test_a_rewrite_that_says_that_it_carries_scales_and_does_not_is_caught(choice, monkeypatch):
    def renamed(net, target):
        for node in net.nodes:
            if node.op_type == "Conv" and node.input[0] == "wide":
                node.input[0] = net.add("Neg", ["wide"], "new")
        return 1

    monkeypatch.setattr(rewriting, "load", lambda name: Rewrite(1, ("*",), renamed, carries=True))
    with pytest.raises(GraphError, match="no single scale was chosen for the tensor 'new'"):
        retarget.retarget(choice, SPEC, Target("onnx", "int8"), SPELLINGS["onnx"], ("align",))


@pytest.mark.parametrize("name", sorted(SPELLINGS))
def test_runtimes_run_their_own(choice, pictures, need, tmp_path, name):
    backend = backends.load(name)
    need(backend.package, what=name)
    own = Target(name, "int8", BLOCK)
    results = []
    for names in ((), rewriting.halves(None, Target(rewriting.ANY, "int8"), own)[1]):
        out = tmp_path / str(len(names))
        out.mkdir()
        model = retarget.retarget(choice, SPEC, own, SPELLINGS[name], names).model
        done = backend.convert(model, SPEC, "int8", out)
        session = backend.load(out / done.files[0], done.spec, threads=1, options=done.runtime_options)
        x = pictures[0] if done.spec.input_layout == "nchw" else np.ascontiguousarray(pictures[0].transpose(0, 2, 3, 1))
        scores = session.run({"image": x})["scores"]
        scores = scores if done.spec.output_layout == "nchw" else scores.transpose(0, 3, 1, 2)
        results.append(scores[:, 1] - scores[:, 0])
        session.close()
    assert np.abs(results[0] - results[1]).mean() < 0.004 * np.abs(results[0]).max()


@pytest.mark.parametrize("backend", sorted(SPELLINGS))
@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_frames_of_bytes_give_what_prepared_pictures_give(choice, backend, color):
    """The integer weights are only put in another order, and the picture is prepared in float in front of them."""
    its_spec = replace(SPEC, color=color, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    own = Target(backend, "int8", BLOCK)
    names = rewriting.halves(None, Target(rewriting.ANY, "int8"), own)[1]
    names = tuple(name for name in names if name not in rewriting.HEADS)
    plain = retarget.retarget(choice, its_spec, own, SPELLINGS[backend], names)
    found = retarget.retarget(choice, its_spec, own, SPELLINGS[backend], names, bytewise=True)
    assert found.applied == (frames.NAME, *plain.applied)
    frame = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    before = run(plain.model, [to_input(frame, its_spec)])
    after = run(found.model, [to_input(frame, frames.frame_spec(its_spec))])
    # A pixel that lies between two integers may become the other one: preparing has other last bits.
    assert np.abs(before - after).mean() < 2e-3 * np.abs(before).max()


def test_a_first_layer_in_float_is_left_alone_and_its_pooling_still_comes_before_the_rounding(pictures):
    placed = place(branching(), floating=["stem.conv"])
    seen = ranges.watch(placed, ({"image": x} for x in pictures), len(pictures))
    scales = {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}
    mixed = Choice(placed, scales, seen, QuantizationRecipe("branching", ()))
    for backend in sorted(SPELLINGS):
        own = Target(backend, "int8", BLOCK)
        plain = retarget.retarget(mixed, SPEC, own, SPELLINGS[backend], ())
        found = retarget.retarget(mixed, SPEC, own, SPELLINGS[backend], ("group-pixels", "unrounded-pool", "align"))
        assert "group-pixels" not in found.applied
        makers = {name: node for node in found.model.graph.node for name in node.output}
        [pool] = [node for node in found.model.graph.node if node.op_type == "MaxPool"]
        assert makers[pool.input[0]].op_type == "Relu"
        before, after = run(plain.model, pictures), run(found.model, pictures)
        assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()
