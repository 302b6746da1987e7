"""Any ONNX graph is parsed and checked; what cannot be used or trusted is refused in two lines."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeseg import checkpoints
from edgeseg.core.errors import CheckpointError
from tests.unit.graph.networks import network, noise, run


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 22])
def test_opsets_11_to_22_are_read_as_they_are(tmp_path: Path, opset: int) -> None:
    model = network(opset=opset, ir_version=8)
    read = checkpoints.read(saved(model, tmp_path / "net.onnx"))
    assert read.format == "onnx"
    assert read.weights is None
    assert read.model == model
    assert read.notes == ()


def test_metadata_and_another_suffix(tmp_path: Path) -> None:
    model = network()
    helper.set_model_props(model, {"author": "someone"})
    read = checkpoints.read(saved(model, tmp_path / "net.bin"))
    assert (read.format, dict(read.metadata)) == ("onnx", {"author": "someone"})


def old_network() -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["a"]),
        helper.make_node("Softmax", ["a"], ["scores"], axis=1),
    ]
    inputs = [value("image", 1, [1, 3, 4, 6]), value("weight", 1, [2, 3, 1, 1])]
    graph = helper.make_graph(nodes, "net", inputs, [value("scores", 1, [1, 2, 4, 6])], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=3)


def test_an_older_opset_is_upgraded_and_said(tmp_path: Path) -> None:
    model = old_network()
    read = checkpoints.read(saved(model, tmp_path / "net.onnx"))
    assert read.model is not None
    assert read.model.opset_import[0].version == 11
    assert read.notes == ("opset 9 was upgraded to 11",)
    np.testing.assert_array_equal(run(read.model, noise(4, 6)), run(model, noise(4, 6)))


def test_a_newer_opset_is_read_if_the_tools_know_it(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    with pytest.raises(
        CheckpointError, match=rf"uses ONNX opset {newest + 1}; the installed onnx .* knows up to {newest}"
    ):
        checkpoints.read(saved(network(opset=newest + 1), tmp_path / "net.onnx"))


def test_an_ir_version_beyond_the_runtime_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"has IR version 99 and opset 13, which the installed onnxruntime"
    ) as error:
        checkpoints.read(saved(network(ir_version=99), tmp_path / "net.onnx"))
    assert "onnxruntime" in error.value.hint


@pytest.mark.parametrize(
    "content", [b"\x08\x07\x12", b"\x08\x07:\xff\xff\xff\xff\x0fabc", b"\x08\x07\x12\x00", b"text"]
)
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no ONNX model|without a single node"):
        checkpoints.read(tmp_path / "net.onnx")


def test_truncated_at_every_tenth_byte(tmp_path: Path) -> None:
    content = network().SerializeToString()
    path = tmp_path / "net.onnx"
    for end in range(1, len(content), 10):
        path.write_bytes(content[:end])
        with pytest.raises(CheckpointError):
            checkpoints.read(path)


def test_an_invalid_graph_is_refused(tmp_path: Path) -> None:
    model = network()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(CheckpointError, match="not a valid ONNX model"):
        checkpoints.read(saved(model, tmp_path / "net.onnx"))


def poison(model: onnx.ModelProto, value: float) -> None:
    array = numpy_helper.to_array(model.graph.initializer[0]).copy()
    array.flat[3] = value
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "weight"))


def test_nan_is_named(tmp_path: Path) -> None:
    model = network()
    poison(model, np.nan)
    with pytest.raises(CheckpointError, match="NaN in weight: 1 of its 54 values"):
        checkpoints.read(saved(model, tmp_path / "net.onnx"))


def test_nan_in_a_constant_node_is_named_by_its_output(tmp_path: Path) -> None:
    model = network()
    constant = numpy_helper.from_array(np.array([np.nan], np.float32))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["bad"], value=constant))
    with pytest.raises(CheckpointError, match="NaN in bad"):
        checkpoints.read(saved(model, tmp_path / "net.onnx"))


def test_infinity_is_allowed_because_graphs_mask_with_it(tmp_path: Path) -> None:
    model = network()
    poison(model, -np.inf)
    assert checkpoints.read(saved(model, tmp_path / "net.onnx")).model is not None


def test_a_constant_of_another_size_than_its_shape(tmp_path: Path) -> None:
    model = network()
    model.graph.initializer[0].dims[0] = 3
    with pytest.raises(CheckpointError, match=r"weight|valid"):
        checkpoints.read(saved(model, tmp_path / "net.onnx"))


# External data
def with_external(folder: Path, location: str, *, length: int = 2 * 3 * 3 * 3 * 4, offset: int = 0) -> Path:
    model = network()
    tensor = model.graph.initializer[0]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.data").write_bytes(b"\0" * offset + content)
    return saved(model, folder / "net.onnx")


def test_external_data_in_the_same_folder_is_read_and_hashed(tmp_path: Path) -> None:
    read = checkpoints.read(with_external(tmp_path / "a", "weights.data", offset=8))
    assert read.model is not None
    assert read.model.graph.initializer[0].raw_data == network().graph.initializer[0].raw_data
    assert not read.model.graph.initializer[0].external_data
    other = with_external(tmp_path / "b", "weights.data", offset=8)
    (tmp_path / "b" / "weights.data").write_bytes(b"\1" * 8 + network().graph.initializer[0].raw_data)
    assert checkpoints.read(other).sha256 != read.sha256


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "sub/../../secret", "..\\secret", "", ".", "link"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(b"s" * 216)
    path = with_external(tmp_path / "model", location)
    (path.parent / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="points out of the model's own folder"):
        checkpoints.read(path)


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    path = with_external(tmp_path, "weights.data")
    (tmp_path / "weights.data").write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match=r"should be 216 bytes at 0 of weights\.data, which has 100"):
        checkpoints.read(path)
    (tmp_path / "weights.data").unlink()
    with pytest.raises(CheckpointError, match=r"needs its data file weights\.data"):
        checkpoints.read(path)


@pytest.mark.parametrize(("length", "offset"), [(1 << 60, 0), (216, -8), (-1, 0), (212, 0)])
def test_external_lengths_are_not_believed(tmp_path: Path, length: int, offset: int) -> None:
    path = with_external(tmp_path, "weights.data", length=length, offset=max(offset, 0))
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[1].value = str(offset)
    with pytest.raises(CheckpointError, match="external data of weight"):
        checkpoints.read(saved(model, path))


@pytest.mark.parametrize("name", ["paddle2onnx.onnx", "paddle2onnx_2021_dynamic.onnx"])
def test_the_real_exports_are_read(shared: Path, name: str) -> None:
    read = checkpoints.read(shared / "checkpoints" / "pphumanseg_lite_portrait" / name)
    assert read.model is not None
    assert read.notes == ()
