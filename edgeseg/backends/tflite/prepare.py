"""From an ONNX model to the plain nodes that the lowerings read: functions inlined, static shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError

FIRST_OPSET = 7
"""From here on ONNX broadcasts as numpy does."""


@dataclass(frozen=True)
class Node:
    """One ONNX node; an input that is left out is the empty string."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""
    proto: Any = None

    @property
    def label(self) -> str:
        """How messages call the node."""
        return f"{self.op} {self.name or next(filter(None, self.outputs), '')!r}"

    def get(self, name: str, default: Any) -> Any:
        """An attribute; strings are text, lists are lists."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class Port:
    """An input or output of the graph."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass
class Graph:
    """A model as the lowerings see it."""

    opset: int
    inputs: list[Port]
    outputs: list[str]
    constants: dict[str, Array]
    nodes: list[Node]
    source: Any
    """The `onnx.ModelProto` as it was given: what the written file has to agree with."""
    model: Any
    """The ModelProto that the nodes were read from: `source` with functions inlined, for a look at values inside."""

    def consumers(self) -> dict[str, list[Node]]:
        """Value name to the nodes that read it."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in set(node.inputs):
                found.setdefault(name, []).append(node)
        return found


def attributes(proto: Any) -> dict[str, Any]:
    """A NodeProto's attributes as Python values; a tensor stays a numpy array, a graph a GraphProto."""
    from onnx import AttributeProto, helper, numpy_helper

    found: dict[str, Any] = {}
    for attribute in proto.attribute:
        if attribute.type == AttributeProto.TENSOR:
            found[attribute.name] = numpy_helper.to_array(attribute.t)
        elif attribute.type == AttributeProto.STRING:
            found[attribute.name] = attribute.s.decode()
        else:
            value = helper.get_attribute_value(attribute)
            found[attribute.name] = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    return found


def node_from(proto: Any) -> Node:
    """Read one NodeProto."""
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    return Node(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), attributes(proto), domain, proto)


def prepare(model: Any, known: frozenset[str]) -> Graph:
    """Read a model.

    Args:
        model: `onnx.ModelProto`; it is not changed.
        known: Operators that have a lowering; others are replaced by what ONNX says they are made of, where it does.

    Raises:
        GraphError: An input has no static shape, or the opset is too old.
    """
    import onnx.inliner
    from onnx import helper, numpy_helper

    source = model
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    model = _expanded(model, known)
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < FIRST_OPSET:
        raise GraphError(
            f"the graph has opset {opset}; the TFLite writer reads {FIRST_OPSET} and newer",
            "onnx.version_converter.convert_version(model, 17) brings it up",
        )
    constants = {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    inputs = []
    for value in model.graph.input:
        if value.name in constants:
            continue
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            raise GraphError(f"input {value.name!r} is a {kind}, not a tensor", "TFLite has tensors only")
        tensor = value.type.tensor_type
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
        if not tensor.HasField("shape") or min(sizes, default=1) < 0:
            shown = "x".join(str(size) if size >= 0 else "?" for size in sizes)
            raise GraphError(
                f"input {value.name!r} has no static shape ({shown}): a TFLite file is made for one size",
                "give the size: --input-size WIDTHxHEIGHT",
            )
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        inputs.append(Port(value.name, tuple(sizes), dtype))
    return Graph(
        opset=opset,
        inputs=inputs,
        outputs=[value.name for value in model.graph.output],
        constants=constants,
        nodes=[node_from(proto) for proto in model.graph.node],
        source=source,
        model=model,
    )


def _expanded(model: Any, known: frozenset[str]) -> Any:
    """Replace operators without a lowering by their ONNX function body."""
    import onnx.inliner
    import onnx.shape_inference

    strange = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")} - known
    bodies = []
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    for op in sorted(strange):
        try:
            definition = onnx.defs.get_schema(op, opset, "")
        except onnx.defs.SchemaError:
            continue
        if definition.has_function or definition.has_context_dependent_function:
            bodies.append(("", op))
    if not bodies:
        return model
    try:
        typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
        return onnx.inliner.inline_selected_functions(typed, bodies, inline_schema_functions=True)
    except (RuntimeError, onnx.shape_inference.InferenceError):
        return model  # the operators stay, and are refused by name
