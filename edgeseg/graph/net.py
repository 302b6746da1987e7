"""A graph that rewrites can work on: nodes and constants in Python's hands, look-ups, and the way back to ONNX.

Rewrites add nodes anywhere in the list and never care for order, dead nodes or stale shapes: `Net.model` sorts,
sweeps and infers anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError
from edgeseg.core.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]

_SMALL = 256
"""Elements of a constant up to which it may be a shape, whose content says how large other values are."""


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value; strings are text, lists are lists."""
    from onnx import helper

    for found in node.attribute:
        if found.name == name:
            value = helper.get_attribute_value(found)
            return value.decode() if isinstance(value, bytes) else list(value) if isinstance(default, list) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Give a node an attribute, in place of the one it may have."""
    from onnx import helper

    kept = [found for found in node.attribute if found.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


class Net:
    """One ONNX graph.

    Args:
        model: It is not changed. Its shapes have to be static where a rewrite is to do anything.
        spec: What its input and output mean, for rewrites of the head; None if that is not known.

    Attributes:
        spec: As given.
        nodes: In any order; rewrites change the list and the nodes in it.
        constants: Initializers and the values of Constant nodes. Arrays are shared: replace, never write into them.
        inputs: Names of the graph's inputs.
        outputs: Names of the graph's outputs, which keep their values under every rewrite.
        opset: Of the default domain.
        shapes: Static shapes, of what is known; stale after a change until `refresh`.
        types: Element types by ONNX's numbers.
    """

    def __init__(self, model: onnx.ModelProto, spec: ModelSpec | None = None) -> None:
        import onnx
        from onnx import numpy_helper

        self.spec = spec
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        self.constants: dict[str, Array] = {
            tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer
        }
        self.nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = np.asarray(numpy_helper.to_array(node.attribute[0].t))
            else:
                self.nodes.append(node)
        self.inputs = [value.name for value in graph.input if value.name not in self.constants]
        del graph.node[:], graph.initializer[:], graph.value_info[:]  # all of them are made anew
        self.outputs = [value.name for value in graph.output]
        self._taken = {name for node in self.nodes for name in (*node.input, *node.output)} | set(self.constants)
        self._taken |= {*self.inputs, *self.outputs, *(node.name for node in self.nodes)}
        doubles = any(value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for value in graph.input)
        self._element = onnx.TensorProto.DOUBLE if doubles else onnx.TensorProto.FLOAT
        self._real = np.float64 if doubles else np.float32
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}
        self.refresh()

    # Look-ups

    def makers(self) -> dict[str, onnx.NodeProto]:
        """Value name to the node that makes it."""
        return {name: node for node in self.nodes for name in node.output if name}

    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """Value name to the nodes that read it, each once."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(filter(None, node.input)):
                found.setdefault(name, []).append(node)
        return found

    def sole_reader(self, name: str, readers: Mapping[str, list[onnx.NodeProto]]) -> onnx.NodeProto | None:
        """The one node that reads a value which is no output of the graph."""
        found = readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def shape(self, name: str) -> Shape | None:
        """The static shape of a value; None if it is not known."""
        data = self.constants.get(name)
        return tuple(data.shape) if data is not None else self.shapes.get(name)

    def is_image(self, name: str) -> bool:
        """Whether a value is a batch of feature maps, [N, C, H, W], in the graph's floating point."""
        shape = self.shapes.get(name)
        return shape is not None and len(shape) == 4 and self.types.get(name) == self._element

    # Changes

    def constant(self, data: Array, hint: str) -> str:
        """Add a constant; float64, in which rewrites may compute, becomes the graph's own floating point."""
        name = self.fresh(hint)
        self.constants[name] = np.asarray(data, self._real if data.dtype == np.float64 else data.dtype, order="C")
        return name

    def fresh(self, hint: str) -> str:
        """A name that nothing has."""
        name, count = hint, 2
        while name in self._taken:
            name, count = f"{hint}.{count}", count + 1
        self._taken.add(name)
        return name

    def add(self, op: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        from onnx import helper

        node = helper.make_node(op, list(inputs), [output], name=self.fresh(output), **attributes)
        self.nodes.append(node)
        return output

    def remove(self, gone: Iterable[onnx.NodeProto]) -> None:
        """Take nodes out of the graph."""
        ids = {id(node) for node in gone}
        self.nodes = [node for node in self.nodes if id(node) not in ids]

    def redirect(self, old: str, new: str) -> None:
        """Let every node that reads `old` read `new`."""
        for node in self.nodes:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = new

    def redeclare(self, name: str, element: int, shape: Shape) -> None:
        """Give an input of the graph another element type (ONNX's number) and shape."""
        from onnx import helper

        [value] = [value for value in self._model.graph.input if value.name == name]
        value.CopyFrom(helper.make_tensor_value_info(name, element, shape))

    def sweep(self) -> None:
        """Sort the nodes and drop what no output needs."""
        makers = self.makers()
        order: list[onnx.NodeProto] = []
        state: dict[int, bool] = {}  # False while a node's inputs are visited
        stack = [(makers[name], False) for name in reversed(self.outputs) if name in makers]
        while stack:
            node, ready = stack.pop()
            if ready:
                if not state[id(node)]:
                    state[id(node)] = True
                    order.append(node)
                continue
            if id(node) in state:
                continue
            state[id(node)] = False
            stack.append((node, True))
            for name in reversed(node.input):
                maker = makers.get(name)
                if maker is not None and not state.get(id(maker), False):
                    if id(maker) in state:
                        raise GraphError(f"the graph has a circle through {maker.name or maker.output[0]}")
                    stack.append((maker, False))
        self.nodes = order
        read = {name for node in order for name in node.input} | set(self.outputs)
        self.constants = {name: data for name, data in self.constants.items() if name in read}

    def refresh(self) -> None:
        """Sweep, and infer all shapes anew."""
        import onnx

        self.sweep()
        typed = onnx.shape_inference.infer_shapes(self._assembled(weights=False), data_prop=True)
        self.shapes, self.types = {}, {}
        for value in (*typed.graph.value_info, *typed.graph.input, *typed.graph.output):
            tensor = value.type.tensor_type
            self.types[value.name] = tensor.elem_type
            if tensor.HasField("shape") and all(dim.dim_value > 0 for dim in tensor.shape.dim):
                self.shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)

    def model(self) -> onnx.ModelProto:
        """The graph as ONNX, checked.

        Raises:
            GraphError: A rewrite has left something that is no valid graph.
        """
        import onnx

        self.sweep()
        try:
            model = onnx.shape_inference.infer_shapes(self._assembled(), data_prop=True)
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # the checker's exceptions share no base class
            raise GraphError(f"a rewrite left an invalid graph: {str(error).strip().splitlines()[0]}") from error
        return model

    def _assembled(self, *, weights: bool = True) -> onnx.ModelProto:
        """The graph as ONNX; without `weights`, large constants are inputs: enough, and much less, to infer shapes."""
        import onnx
        from onnx import helper, numpy_helper

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        graph.node.extend(self.nodes)
        inputs = [value for value in graph.input if value.name in self.inputs]  # IR 3 lists weights there too
        del graph.input[:]
        graph.input.extend(inputs)
        for name, data in self.constants.items():
            if weights or data.size <= _SMALL:
                graph.initializer.append(numpy_helper.from_array(data, name))
            else:
                kind = helper.np_dtype_to_tensor_dtype(data.dtype)
                graph.input.append(helper.make_tensor_value_info(name, kind, data.shape))
        return model
