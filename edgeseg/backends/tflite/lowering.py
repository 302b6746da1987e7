"""The walk over an ONNX graph that fills a builder, and the one error that names every node it could not write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeseg.backends.tflite import layout, ops, patterns
from edgeseg.backends.tflite.builder import Builder
from edgeseg.backends.tflite.context import LOWERINGS, Context, Refused, Value, constant_value, elements, internal
from edgeseg.backends.tflite.contracts import check as check_contracts
from edgeseg.backends.tflite.fusion import fuse
from edgeseg.backends.tflite.layout import Order
from edgeseg.backends.tflite.prepare import Graph, Node, node_from, prepare
from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError

_SHOWN = 8
_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
_UNFORESEEN = (AssertionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Lowered:
    """A graph in TFLite's terms.

    Attributes:
        builder: The subgraph.
        graph: The prepared ONNX graph that it came from.
        orders: For every input and output of the graph, the order in which its tensor lies.
        values: ONNX value name to where it is in the subgraph, to compare values on the way.
    """

    builder: Builder
    graph: Graph
    orders: dict[str, Order]
    values: dict[str, Value]


def lower(model: Any, orders: Mapping[str, Order] | None = None) -> Lowered:
    """Write an ONNX model as a TFLite subgraph.

    Args:
        model: `onnx.ModelProto` with static input shapes; it is not changed.
        orders: Inputs and outputs that are not to lie as ONNX says, e.g. ``{"x": NHWC}``.

    Raises:
        GraphError: Nodes that cannot be written, all in one message.
    """
    ops.register_all()
    graph = prepare(model, frozenset(LOWERINGS))
    patterns.apply(graph)
    walk = _Walk(graph, dict(orders or {}))
    walk.run()
    fuse(walk.ctx.builder)
    check_contracts(walk.ctx.builder)
    return Lowered(walk.ctx.builder, graph, walk.orders, walk.ctx.values)


class _Walk:
    """One pass over the nodes; keeps going after a refusal, so that all refusals are in one message."""

    def __init__(self, graph: Graph, orders: dict[str, Order]) -> None:
        self.graph = graph
        self.ctx = Context(graph.opset)
        self.orders = orders
        self.refusals: list[tuple[Node, str]] = []
        self._inferred: dict[str, Any] | None = None

    def run(self) -> None:
        for name, data in self.graph.constants.items():
            self.ctx.values[name] = constant_value(data)
        self._inputs()
        for node in self.graph.nodes:
            self._node(node)
        if not self.refusals:
            self._outputs()
        if self.refusals:
            raise self._error()

    def _inputs(self) -> None:
        for port in self.graph.inputs:
            rank = len(port.shape)
            order = self.orders.setdefault(port.name, layout.identity(rank))
            self.ctx.node = Node("Input", port.name, (), (port.name,))
            if 0 in port.shape:
                raise GraphError(f"input {port.name!r} is empty: {port.shape}", "TFLite has no empty tensors")
            try:
                inner = internal(port.dtype)
            except Refused as error:
                raise GraphError(
                    f"input {port.name!r} cannot be a TFLite input: {error}", "export the network with float32 inputs"
                ) from error
            tensor = self.ctx.builder.tensor(port.name, layout.physical(port.shape, order), port.dtype)
            self.ctx.builder.inputs[port.name] = tensor
            if inner != port.dtype:
                tensor = self.ctx.cast(tensor, inner)
            self.ctx.values[port.name] = Value(port.shape, inner, order, tensor)

    def _node(self, node: Node) -> None:
        self.ctx.node = node
        missing = [name for name in node.inputs if name and name not in self.ctx.values]
        try:
            if node.domain != "":
                raise Refused(f"it is of the domain {node.domain!r}")
            if node.op == "If":
                self._branch(node)
                return
            if node.op not in LOWERINGS and not self._foldable(node):
                raise Refused("there is no lowering for this operator")
            if missing:
                return  # comes after a refused node whose result has no known shape
            if self._foldable(node):
                self._fold(node)
            else:
                LOWERINGS[node.op](self.ctx, node)
                self._no_empty(node)
        except Refused as error:
            self._refuse(node, str(error))
        except _UNFORESEEN as error:  # attributes or shapes that a lowering did not think of: refused, not a traceback
            self._refuse(node, f"the writer does not cover this form of it ({type(error).__name__}: {error})")

    def _refuse(self, node: Node, reason: str) -> None:
        self.refusals.append((node, reason))
        self._stand_in(node)

    def _no_empty(self, node: Node) -> None:
        for name in node.outputs:
            if name and 0 in self.ctx.values[name].shape and self.ctx.values[name].data is None:
                raise Refused("its result is empty")

    def _foldable(self, node: Node) -> bool:
        """Whether the node's result is known now."""
        if node.op in (*_RANDOM, "Constant", "Shape", "Size", "DequantizeLinear") or node.domain:
            return False
        known = [name for name in node.inputs if name]
        return bool(known) and all(name in self.ctx.values and self.ctx.values[name].data is not None for name in known)

    def _fold(self, node: Node) -> None:
        """Compute a node of constants with ONNX's own reference implementation."""
        feeds = {name: self.ctx.values[name].data for name in node.inputs if name}
        for name, result in zip(node.outputs, evaluate(node, feeds, self.graph.opset), strict=False):
            if name:
                self.ctx.values[name] = constant_value(np.asarray(result))

    def _branch(self, node: Node) -> None:
        """An If whose condition is known is the nodes of one branch."""
        condition = self.ctx.values.get(node.inputs[0])
        if condition is None or condition.data is None:
            raise Refused("its condition is computed at run time")
        from onnx import numpy_helper

        branch = node.attributes["then_branch" if bool(condition.data.reshape(-1)[0]) else "else_branch"]
        for tensor in branch.initializer:
            self.ctx.values[tensor.name] = constant_value(np.asarray(numpy_helper.to_array(tensor)))
        for proto in branch.node:
            self._node(node_from(proto))
        for outer, inner in zip(node.outputs, branch.output, strict=True):
            if inner.name in self.ctx.values:
                self.ctx.values[outer] = self.ctx.values[inner.name]

    def _stand_in(self, node: Node) -> None:
        """Give the results of a refused node a shape, where ONNX knows it, so that the walk can go on."""
        if self._inferred is None:
            self._inferred = _inferred(self.graph.model)
        for name in node.outputs:
            found = self._inferred.get(name)
            if found is not None:
                shape, dtype = found
                self.ctx.values[name] = Value(
                    shape, dtype, layout.identity(len(shape)), self.ctx.builder.tensor(name, shape, dtype)
                )

    def _outputs(self) -> None:
        """Bring every output of the graph into its type and order, in a tensor of its own."""
        builder = self.ctx.builder
        kinds = {value.name: value.type.tensor_type.elem_type for value in self.graph.model.graph.output}
        for name in self.graph.outputs:
            value = self.ctx.values[name]
            order = self.orders.setdefault(name, layout.identity(len(value.shape)))
            node = self.ctx.node = Node("Output", name, (name,), (name,))
            try:
                if value.data is not None and 0 in value.shape:
                    raise Refused("it is empty")
                value = _retyped_output(self.ctx, value, kinds[name])
                if value.data is not None:
                    tensor = builder.constant(value.data.transpose(order))
                else:
                    tensor = self.ctx.tensor(value, order)
                taken = {*builder.inputs.values(), *builder.outputs.values()}
                if tensor in taken or builder.tensors[tensor].data is not None:
                    tensor = _copy(self.ctx, tensor)
            except Refused as error:
                self.refusals.append((node, str(error)))
                continue
            builder.tensors[tensor].name = name
            builder.outputs[name] = tensor
            self.ctx.values[name] = replace(value, order=order, tensor=tensor, data=None)

    def _error(self) -> GraphError:
        count = len(self.refusals)
        shown = "; ".join(f"{node.label}: {reason}" for node, reason in self.refusals[:_SHOWN])
        more = f"; and {count - _SHOWN} more" if count > _SHOWN else ""
        plural = "node cannot" if count == 1 else "nodes cannot"
        return GraphError(
            f"{count} {plural} be written as TFLite: {shown}{more}",
            "replace them in the network, or try --converter onnx2tf",
        )


def _retyped_output(ctx: Context, value: Value, elem_type: int) -> Value:
    """A value in the ONNX type of a graph output; int64 was computed in int32."""
    from onnx import helper

    if value.data is not None:
        internal(value.data.dtype)
        return value
    declared = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type)) if elem_type else value.dtype
    if declared == value.dtype:
        return value
    internal(declared)
    assert value.tensor is not None
    return Value(value.shape, declared, value.order, ctx.cast(value.tensor, declared))


def _copy(ctx: Context, tensor: int) -> int:
    """The same content in a tensor that an operator writes."""
    shape = ctx.shape_of(tensor)
    if shape:
        return ctx.emit("RESHAPE", [tensor, ctx.ints(shape)], shape, newShape=np.array(shape, np.int32))
    return ctx.reshape(ctx.reshape(tensor, (1,)), ())


def evaluate(node: Node, feeds: Mapping[str, Array | None], opset: int) -> list[Any]:
    """Run one node with ONNX's reference evaluator."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.asarray(data).dtype), None)
        for name, data in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.outputs if name]
    proto = helper.make_node(node.op, node.inputs, node.outputs) if node.proto is None else node.proto
    try:
        graph = helper.make_graph([proto], "constant", inputs, outputs)
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))
        with np.errstate(all="ignore"):
            return list(evaluator.run(None, dict(feeds)))
    except Exception as error:  # the evaluator raises whatever its kernels raise
        raise Refused(f"its constant result cannot be computed: {error}") from error


def _inferred(model: Any) -> dict[str, tuple[layout.Shape, np.dtype[Any]]]:
    """Static shapes and computable types of the values of a model, as far as ONNX can tell."""
    import onnx.shape_inference
    from onnx import helper

    found: dict[str, tuple[layout.Shape, np.dtype[Any]]] = {}
    try:
        typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (RuntimeError, onnx.shape_inference.InferenceError):
        return found
    for value in [*typed.graph.value_info, *typed.graph.output]:
        tensor = value.type.tensor_type
        sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]
        if not tensor.HasField("shape") or not elements(sizes):
            continue
        try:
            found[value.name] = tuple(sizes), internal(np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
        except Refused:
            continue
    return found
