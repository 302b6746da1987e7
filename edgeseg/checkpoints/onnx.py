"""ONNX graphs of any segmentation network: parsed, checked, and refused before a runtime trips over them.

Opsets 11 to 22 are read as they are. Older ones are upgraded to 11 where onnx can do it. Newer ones are accepted when
both the installed onnx and the installed ONNX Runtime (which runs the reference) know them.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from edgeseg.checkpoints import Checkpoint
from edgeseg.checkpoints._content import check_finite, sha256
from edgeseg.core import plugins
from edgeseg.core.errors import CheckpointError

if TYPE_CHECKING:
    import onnx

SUFFIXES = (".onnx",)
OLDEST_OPSET = 11
"""Resize with half-pixel coordinates, which segmentation heads need, came with opset 11."""


def sniff(path: Path, head: bytes) -> bool:
    """A protocol buffer that starts like a ModelProto: the IR version, then one of its other fields."""
    if head[:1] != b"\x08" or len(head) < 3 or head[1] >= 0x80:
        return False
    return head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72)


def read(path: Path, *, factory: str = "", input_size: tuple[int, int] | None = None) -> Checkpoint:
    """The graph with its external data; see `edgeseg.checkpoints.read`."""
    model, files, notes = load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Checkpoint(path, "onnx", sha256([path, *files]), model=model, metadata=metadata, notes=tuple(notes))


def load(path: Path) -> tuple[onnx.ModelProto, list[Path], list[str]]:
    """Parse and check an ONNX file.

    Returns:
        The model with all its data inside; the files of external data that were read; what was changed.

    Raises:
        CheckpointError: Not ONNX, invalid, too new or too old, NaN in a constant, or data outside its own folder.
    """
    model = parsed(path, path.read_bytes())
    files = _load_external(path, model)
    model, notes = checked(path, model)
    return model, files, notes


def parsed(path: Path, content: bytes) -> onnx.ModelProto:
    """A ModelProto from its bytes.

    Raises:
        CheckpointError: It is no ONNX, or has no node.
    """
    import onnx

    protobuf: Any = plugins.require("google.protobuf.message", extra="", what="reading ONNX")

    try:
        model = onnx.load_model_from_string(content)
    except (protobuf.DecodeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no ONNX model, or a damaged one: {error}", "copy or download it again"
        ) from error
    if not model.graph.node:
        raise CheckpointError(
            f"{path} is an ONNX model without a single node", "copy or download it again; is it cut short?"
        )
    return model


def checked(path: Path, model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model if it is valid, of a known age and without NaN; upgraded if it is old.

    Args:
        path: What it was read or converted from, for messages.
        model: Without external data.

    Returns:
        The model and what was changed, in sentences.
    """
    opset = _opset(path, model)
    _check_runtime_reads(path, model.ir_version, opset)
    _check(path, model)
    for name, tensor in _tensors(model):
        _check_tensor(path, name, tensor)
    notes = []
    if opset < OLDEST_OPSET:
        model = _upgraded(path, model, opset)
        notes.append(f"opset {opset} was upgraded to {OLDEST_OPSET}")
    return model, notes


def _opset(path: Path, model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise CheckpointError(f"{path} does not say which ONNX opset it uses", "export it again")
    return int(versions[0])


def _check(path: Path, model: onnx.ModelProto) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        first = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path} is not a valid ONNX model: {first[:300]}", "export it again") from error


def _check_runtime_reads(path: Path, ir_version: int, opset: int) -> None:
    """Ask the installed onnx and ONNX Runtime whether they read files of this age, with a graph of one node."""
    import onnx

    if opset > onnx.defs.onnx_opset_version():
        raise CheckpointError(
            f"{path} uses ONNX opset {opset}; the installed onnx {onnx.__version__} knows up to {onnx.defs.onnx_opset_version()}",
            "export it with opset 18, or pip install --upgrade onnx onnxruntime",
        )
    import onnxruntime

    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "probe", [value("x", 1, [1])], [value("y", 1, [1])]
    )
    known = max(opset, OLDEST_OPSET)
    probe = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", known)], ir_version=ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class
        raise CheckpointError(
            f"{path} has IR version {ir_version} and opset {opset}, which the installed onnxruntime {onnxruntime.__version__} "
            f"does not read: {str(error).rsplit(':', 1)[-1].strip()[:120]}",
            "pip install --upgrade onnxruntime, or export it again with opset 18",
        ) from error


def _upgraded(path: Path, model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    import onnx
    from onnx import version_converter

    try:
        upgraded = version_converter.convert_version(model, OLDEST_OPSET)
        onnx.checker.check_model(upgraded)
    except Exception as error:  # the converter raises whatever its C++ part threw
        raise CheckpointError(
            f"{path} uses ONNX opset {opset}, and onnx cannot upgrade it to {OLDEST_OPSET}: {str(error)[:160]}",
            f"export it again with opset {OLDEST_OPSET} or newer",
        ) from error
    return upgraded


def _tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """All constant tensors with a name to call them by: initialisers and attributes, in subgraphs and functions too."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from ((tensor.name, tensor) for tensor in graph.initializer)
            for sparse in graph.sparse_initializer:
                yield sparse.values.name, sparse.values
                yield f"{sparse.values.name} (indices)", sparse.indices
            nodes.extend(graph.node)
        for node in nodes:
            for attribute in node.attribute:
                name = (node.output[0] if node.output else "") or node.name or node.op_type
                yield from ((name, tensor) for tensor in ([attribute.t] if attribute.HasField("t") else []))
                yield from ((name, tensor) for tensor in attribute.tensors)
                for sparse in ([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []) + list(
                    attribute.sparse_tensors
                ):
                    yield name, sparse.values
                    yield f"{name} (indices)", sparse.indices
                graphs.extend(([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs))
        nodes = []


def _check_tensor(path: Path, name: str, tensor: onnx.TensorProto) -> None:
    """Its content has the size that its shape says, and no NaN; infinities are allowed, graphs mask with them."""
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: the constant {name} is damaged: {str(error)[:160]}", "export it again"
        ) from error
    if array.dtype.kind == "f":
        check_finite(path, name, array, infinities=False)


def _load_external(path: Path, model: onnx.ModelProto) -> list[Path]:
    """Read tensors that are kept in other files, all of which have to be in the model's own folder.

    A model is given by one person and run by another: a path that leads elsewhere would put any file of the second
    into what is made from the model.
    """
    folder = path.resolve().parent
    content: dict[Path, bytes] = {}
    for name, tensor in _tensors(model):
        if not tensor.external_data and tensor.data_location != tensor.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = _inside(path, folder, name, entries.get("location", ""))
        try:
            if file not in content:
                content[file] = file.read_bytes()
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", len(content[file]) - offset))
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            raise CheckpointError(
                f"{path}: the external data of {name} cannot be read: {what}", "copy all its files"
            ) from error
        if offset < 0 or length < 0 or offset + length > len(content[file]) or length != _size_bytes(tensor):
            raise CheckpointError(
                f"{path}: the external data of {name} should be {_size_bytes(tensor)} bytes at {offset} of {file.name}, "
                f"which has {len(content[file])}",
                "copy all its files again",
            )
        tensor.raw_data = content[file][offset : offset + length]
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    return list(content)


def _inside(path: Path, folder: Path, name: str, location: str) -> Path:
    pure = PurePosixPath(location)
    file = (folder / pure).resolve()
    escapes = pure.is_absolute() or ".." in pure.parts or "\0" in location or "\\" in location
    if not location or escapes or folder not in file.parents:
        raise CheckpointError(
            f"{path}: the external data of {name} points out of the model's own folder ({location[:80]!r}): refused",
            "put the data file beside the model, and do not trust this one blindly",
        )
    if not file.exists():
        raise CheckpointError(f"{path} needs its data file {location}, which is not beside it", f"copy {location} too")
    if not stat.S_ISREG(file.stat().st_mode):
        raise CheckpointError(
            f"{path}: the external data {location} is no regular file", "copy the model's files again"
        )
    return file


def _size_bytes(tensor: onnx.TensorProto) -> int:
    import onnx

    count = math.prod(int(size) for size in tensor.dims)
    packed = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4, getattr(onnx.TensorProto, "FLOAT4E2M1", -1)}
    if tensor.data_type in packed:
        return (count + 1) // 2
    try:
        return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError):
        return -1
