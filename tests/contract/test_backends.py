"""Every backend, found by discovery, keeps the promises of `edgeseg.core.backend`."""

import numpy as np
import pytest

from edgeseg import backends
from edgeseg.architectures import pphumanseg_lite
from edgeseg.backends import onnx as onnx_backend
from edgeseg.core import plugins
from edgeseg.core.backend import KERNELS
from edgeseg.core.errors import EdgesegError, GraphError
from edgeseg.data.predictor import Predictor
from edgeseg.flows.making import PLAIN

SIZE = (72, 50)  # 16 divides neither side
ALL = plugins.names(backends.PACKAGE)
CASES = [(name, precision) for name in ALL for precision in backends.load(name).precisions if precision != "int8"]


@pytest.fixture(scope="module", params=pphumanseg_lite.HEADS)
def network(request, connectnet_weights):
    return pphumanseg_lite.build(connectnet_weights, size=SIZE, head=request.param)


@pytest.fixture(scope="module")
def pictures():
    from edgeseg.data.sample import sample

    return [sample(index)[0] for index in range(3)]


@pytest.fixture
def backend(request, need):
    backend = backends.load(request.param)
    need(backend.package, f"pip install 'edgeseg[{backend.extra}]'", what=backend.name)
    return backend


def pairs(cases):
    return pytest.mark.parametrize(
        ("backend", "precision"), cases, indirect=["backend"], ids=["-".join(case) for case in cases]
    )


@pairs(CASES)
def test_masks_are_the_references(backend, precision, network, pictures, tmp_path):
    model, spec = network
    conversion = backend.convert(model, spec, precision, tmp_path)
    assert conversion.files
    assert sorted(conversion.files) == sorted(file.name for file in tmp_path.iterdir())
    session = backend.load(
        tmp_path / conversion.files[0], conversion.spec, threads=1, options=conversion.runtime_options
    )
    artifact = Predictor(conversion.spec, session)
    plain = onnx_backend.OnnxSession(
        model.SerializeToString(), onnx_backend.output_names(spec), threads=1, options=PLAIN
    )
    reference = Predictor(spec, plain)
    flipped, foreground = [], []
    for picture in pictures:
        expected = reference.mask(picture)
        found = artifact.mask(picture)
        assert found.shape == picture.shape[:2]
        assert found.dtype == np.uint8
        flipped.append((found != expected).mean())
        foreground.append(expected.mean())
    assert 0.02 < np.mean(foreground) < 0.98, "masks of one class would agree with anything"
    if backend.name == "null":
        assert np.mean(flipped) > 0.02, "the null backend must not pass"
    else:
        assert np.mean(flipped) < (0.001 if precision == "fp32" else 0.01)
    artifact.close()


@pairs([case for case in CASES if case[1] == "fp32"])
def test_runs_do_not_overwrite_each_other_and_repeat_exactly(backend, precision, network, tmp_path):
    model, spec = network
    conversion = backend.convert(model, spec, precision, tmp_path)
    session = backend.load(
        tmp_path / conversion.files[0], conversion.spec, threads=1, options=conversion.runtime_options
    )
    random = np.random.default_rng(0)
    feeds = [
        {conversion.spec.input_name: random.normal(size=conversion.spec.input_shape).astype(np.float32)}
        for _ in range(2)
    ]
    first = session.run(feeds[0])[conversion.spec.output_name]
    kept = first.copy()
    session.run(feeds[1])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(session.run(feeds[0])[conversion.spec.output_name], kept)
    session.close()


@pairs([case for case in CASES if case[0] != "null"])
def test_a_damaged_file_is_an_error_of_ours(backend, precision, network, tmp_path):
    model, spec = network
    conversion = backend.convert(model, spec, precision, tmp_path)
    file = tmp_path / conversion.files[0]
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(EdgesegError, match=r"cannot|damaged|not "):
        backend.load(file, conversion.spec, threads=1, options=conversion.runtime_options)


@pairs([case for case in CASES if case[0] in ("openvino", "tflite") and case[1] == "fp32"])
def test_an_operator_that_no_runtime_has_is_refused(backend, precision, network, tmp_path):
    import onnx

    model, spec = network
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    broken.graph.node[-1].op_type = "NoSuchOperator"
    with pytest.raises(GraphError, match="NoSuchOperator"):
        backend.convert(broken, spec, precision, tmp_path)


@pytest.fixture(scope="module")
def quantised(network, pictures):
    """`quantised(backend)`: the network's Q/DQ graph as that backend likes it."""
    from edgeseg.data.preprocess import to_input
    from edgeseg.flows.quantize import SPELLINGS
    from edgeseg.graph.simplify import simplify
    from edgeseg.quantization import placement, qdq, ranges

    model, spec = network
    placed = placement.place(simplify(model)[0])
    inputs = [{spec.input_name: to_input(picture, spec)} for picture in pictures]
    seen = ranges.watch(placed, inputs, len(inputs))
    scales = {group.name: ranges.candidates(group, seen)["minmax"] for group in placed.groups}
    return lambda backend: qdq.write(placed, scales, seen, SPELLINGS[backend.name])


@pairs([(name, "int8") for name in ALL if name != "null" and "int8" in backends.load(name).precisions])
def test_int8_is_executed_in_integers_and_keeps_the_masks(backend, precision, network, quantised, pictures, tmp_path):
    model, spec = network
    conversion = backend.convert(quantised(backend), spec, precision, tmp_path)
    assert sorted(conversion.files) == sorted(file.name for file in tmp_path.iterdir())
    file = tmp_path / conversion.files[0]
    artifact = Predictor(
        conversion.spec, backend.load(file, conversion.spec, threads=1, options=conversion.runtime_options)
    )
    plain = onnx_backend.OnnxSession(
        model.SerializeToString(), onnx_backend.output_names(spec), threads=1, options=PLAIN
    )
    reference = Predictor(spec, plain)
    flipped = [(artifact.mask(picture) != reference.mask(picture)).mean() for picture in pictures]
    assert 0 < np.mean(flipped) < 0.05, "int8 flips some pixels, and few"
    executed = backend.executed(file, conversion.spec, conversion.runtime_options)
    assert executed.integer_share > 0.99
    artifact.close()


@pairs([(name, "int8") for name in ALL if name != "null"])
def test_a_float_graph_is_not_called_int8(backend, precision, network, tmp_path):
    model, spec = network
    with pytest.raises(GraphError, match="nothing is quantised"):
        backend.convert(model, spec, precision, tmp_path)
    assert not list(tmp_path.iterdir())


@pairs([(name, "fp32") for name in ALL if name != "null"])
def test_fp32_is_not_called_integers(backend, precision, network, tmp_path):
    model, spec = network
    conversion = backend.convert(model, spec, precision, tmp_path)
    executed = backend.executed(tmp_path / conversion.files[0], conversion.spec, conversion.runtime_options)
    assert executed.integer_share == 0
    assert executed.macs > 1e6


def test_names_are_file_names():
    assert [backends.load(name).name for name in ALL] == ALL
    assert "null" not in backends.names()


@pairs([(name, precision) for name in ALL if name != "null" for precision in ("fp32", "int8")])
def test_the_work_is_counted_by_kernel(backend, precision, network, quantised, tmp_path):
    """What is forecast elsewhere: the same multiplications in every runtime, in integers where the file has them so."""
    model, spec = network
    conversion = backend.convert(quantised(backend) if precision == "int8" else model, spec, precision, tmp_path)
    file = tmp_path / conversion.files[0]
    work = backend.work(file, conversion.spec, conversion.runtime_options)
    macs = {kernel: sum(one.macs for one in work if one.kernel == kernel) for kernel in KERNELS}
    assert sum(macs.values()) == backend.executed(file, conversion.spec, conversion.runtime_options).macs
    reference = tmp_path / "reference"
    reference.mkdir()
    onnx_backend.BACKEND.convert(model, spec, "fp32", reference)
    plain = onnx_backend.BACKEND.work(reference / "model.onnx", spec, {})
    for kernel in ("dense", "pointwise", "depthwise"):
        expected = sum(one.macs for one in plain if one.kernel == kernel)
        assert expected > 0
        # The TFLite writer makes a 1x1 convolution of a softmax over two classes.
        assert macs[kernel] == pytest.approx(expected, rel=0.005 if kernel == "pointwise" else 0), kernel
    assert macs["other"] == 0
    multiplying = [one for one in work if one.macs]
    assert all(one.weights and one.reads and one.writes for one in multiplying)
    integer = sum(one.macs for one in multiplying if one.integer)
    assert integer == pytest.approx(sum(macs.values()) if precision == "int8" else 0, rel=0.005)
    movers = [one for one in work if not one.macs]
    assert movers
    assert all(one.writes for one in movers)
    assert sum(one.writes for one in movers) < 3 * sum(one.writes for one in multiplying), "no shapes, no constants"
