"""Which tensors of a graph are quantised, and which of them have to share a scale.

The rules are those of integer kernels, so that the graph can be run by all of them:

* a convolution reads int8, has int8 weights with one scale a channel and an int32 bias, and writes int8;
* ReLU and Clip behind it are no operators but the end of its output's range;
* what moves or picks elements (reshape, transpose, split, concat, pooling by maximum, resize) has one scale for
  everything that it reads and writes, so that integers pass through untouched;
* a transposed convolution is a plain one and a DepthToSpace before it comes here (rewrite `pixel_shuffle`), because two of
  three runtimes have no integer kernel for it; average pools and linear layers on pooled vectors are convolutions, too;
* sums, products, gates and global means between them are functions of integers (`Function`), so that a network with
  squeeze-and-excite or hard swishes does not go to float and back between any two convolutions;
* what nobody needs in integers, e.g. the resize of the final scores, stays in float: it has no weights, and the last
  rounding would be the one that decides about the mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.core.errors import GraphError
from edgeseg.core.operators import MOVERS
from edgeseg.quantization.parts import FUNCTIONS, SWISH_FLOOR, Function, Group, Layer, Placement
from edgeseg.quantization.scales import Scale

if TYPE_CHECKING:
    import onnx

SIGMOID = Scale(1.0 / 256.0, 0)
"""The one scale that LiteRT's integer kernel writes."""


def place(model: onnx.ModelProto, *, floating: Iterable[str] = ()) -> Placement:
    """Decide what is quantised.

    Args:
        model: fp32, static shapes, cleaned (batch norm folded into convolutions).
        floating: Names of layers that stay in float.

    Raises:
        GraphError: A name in `floating` is no layer, or nothing can be quantised.
    """
    return _Placer(model).place(frozenset(floating))


class _Placer:
    """Look-ups in one graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx
        from onnx import numpy_helper

        self.model = model
        self.nodes = list(model.graph.node)
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.weights[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.outputs = {value.name for value in model.graph.output}
        self.readers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(index)
        typed = onnx.shape_inference.infer_shapes(model)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.float = set()
        for value in (*typed.graph.value_info, *typed.graph.input, *typed.graph.output):
            self.shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
                self.float.add(value.name)

    def place(self, floating: frozenset[str]) -> Placement:
        layers = [layer for index in range(len(self.nodes)) if (layer := self._layer(index)) is not None]
        unknown = sorted(floating - {layer.name for layer in layers})
        if unknown:
            raise GraphError(
                f"the network has no layer {unknown[0]!r}",
                f"its layers: {', '.join(layer.name for layer in layers[:6])}, …",
            )
        total = sum(self._macs(index) for index in range(len(self.nodes)))
        layers = [layer for layer in layers if layer.name not in floating]
        if not layers:
            raise GraphError(
                "nothing of this network can be quantised", "int8 needs convolutions with constant weights"
            )
        functions = self._functions(layers)
        movers = self._movers(layers, functions)
        return Placement(
            self.model, tuple(layers), tuple(functions), tuple(movers), self._groups(layers, functions, movers), total,
            self.weights, self.shapes,
        )  # fmt: skip

    def _macs(self, index: int) -> int:
        """Multiply-accumulates of a node: convolutions and matrix products."""
        node = self.nodes[index]
        out = self.shapes.get(node.output[0], ())
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in self.weights:
            weight = self.weights[node.input[1]]
            positions = out if node.op_type == "Conv" else self.shapes.get(node.input[0], ())
            return math.prod(positions[2:]) * weight.size
        if node.op_type in ("MatMul", "Gemm"):
            inner = self.shapes.get(node.input[0]) or self.weights.get(node.input[0], np.empty(0)).shape
            return math.prod(out) * (inner[-1] if inner else 0)
        return 0

    def _layer(self, index: int) -> Layer | None:
        node = self.nodes[index]
        if node.op_type != "Conv" or node.input[0] in self.weights:
            return None
        weight = self.weights.get(node.input[1])
        bias = node.input[2] if len(node.input) > 2 else ""
        if weight is None or weight.ndim != 4 or (bias and bias not in self.weights):
            return None
        if len(self.shapes.get(node.input[0], ())) != 4:
            return None
        groups = _attribute(node, "group", 1)
        if groups not in (1, self.shapes[node.input[0]][1]):
            return None  # neither dense nor depthwise: the integer kernels of LiteRT have no such convolution
        result, activation, floor, ceiling = self._folded(node.output[0])
        return Layer(
            node.output[0], index, node.input[0], node.input[1], bias, result, activation, floor, ceiling,
            self._macs(index),
        )  # fmt: skip

    def _folded(self, name: str) -> tuple[str, int | None, float, float]:
        """The tensor behind an activation that only this one feeds, and the ends that it sets."""
        readers = self.readers.get(name, [])
        if len(readers) == 1 and name not in self.outputs:
            node = self.nodes[readers[0]]
            if node.op_type == "Relu":
                return node.output[0], readers[0], 0.0, math.inf
            if node.op_type == "Clip":
                ends = self._clip_ends(node)
                if ends is not None and ends[0] <= 0.0 <= ends[1]:
                    return node.output[0], readers[0], *ends
        return name, None, -math.inf, math.inf

    def _clip_ends(self, node: Any) -> tuple[float, float] | None:
        ends = []
        for place, (attribute, absent) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
            if len(node.input) > place and node.input[place]:
                if node.input[place] not in self.weights:
                    return None
                ends.append(float(self.weights[node.input[place]].reshape(-1)[0]))
            else:
                ends.append(float(_attribute(node, attribute, absent)))
        return ends[0], ends[1]

    def _functions(self, layers: list[Layer]) -> list[Function]:
        """The functions that stand between integers: what they read is made in integers, and somebody wants their result so.

        Which do hangs on the others, so those that do not are taken away until none is left of them.
        """
        found = [one for index in range(len(self.nodes)) if (one := self._function(index)) is not None]
        while True:
            movers = self._movers(layers, found)
            wanted = {layer.source for layer in layers} | {name for one in found for name in one.inputs}
            wanted.update(name for index in movers for name in self._moved(self.nodes[index]))
            made = {layer.result for layer in layers} | {one.result for one in found}
            for index in movers:
                if made.intersection(self._moved(self.nodes[index])):
                    made.update(self.nodes[index].output)
            kept = [one for one in found if one.result in wanted and self._fed(one, made)]
            if len(kept) == len(found):
                return found
            found = kept

    def _function(self, index: int) -> Function | None:
        """A node as a function, whatever stands around it."""
        node = self.nodes[index]
        inputs = tuple(name for name in node.input if name)
        if node.op_type not in FUNCTIONS or any(name not in self.float or name in self.weights for name in inputs):
            return None
        shape = self.shapes[inputs[0]]
        if any(len(self.shapes[name]) != 4 for name in inputs) or node.output[0] not in self.float - self.outputs:
            return None
        if node.op_type not in ("Add", "Mul"):
            if node.op_type == "Sigmoid" and any(
                self.nodes[reader].op_type not in ("Mul", "Conv") for reader in self.readers.get(node.output[0], [])
            ):
                return None  # its scale is no other tensor's
            return Function(node.op_type, index, inputs, node.output[0])
        if node.op_type == "Add" and self.shapes[inputs[1]] != shape:
            return None
        result, activation, floor, ceiling = self._folded(node.output[0])
        if not (math.isinf(ceiling) and floor in (0.0, -math.inf)):
            result, activation, floor = node.output[0], None, -math.inf
        return Function(node.op_type, index, inputs, result, activation, floor)

    def _fed(self, one: Function, made: set[str]) -> bool:
        """Whether enough of what a function reads is made in integers: of a sum one part, of a product all but gates."""
        if one.kind == "Add":
            return bool(made.intersection(one.inputs))
        whole = self.shapes[self.nodes[one.node].output[0]]
        needed = [name for name in one.inputs if one.kind != "Mul" or self.shapes[name] == whole]
        return made.issuperset(needed or one.inputs)

    def _movers(self, layers: list[Layer], functions: list[Function]) -> list[int]:
        """Nodes that pass integers from something that makes them to something that wants them."""
        wanted = {layer.source for layer in layers} | {name for one in functions for name in one.inputs}
        found = []
        for index in reversed(range(len(self.nodes))):
            node = self.nodes[index]
            outputs = [name for name in node.output if name]
            if not (set(outputs) & wanted) or not self._moves(node) or self.outputs & set(outputs):
                continue
            found.append(index)
            wanted.update(self._moved(node))
        return found[::-1]

    def _moves(self, node: Any) -> bool:
        if node.op_type not in MOVERS or len([name for name in node.output if name]) == 0:
            return False
        if not all(name in self.float for name in (*self._moved(node), *filter(None, node.output))):
            return False
        if node.op_type == "MaxPool":
            return len(node.output) == 1 and set(_attribute(node, "dilations", [1])) == {1}
        if node.op_type == "Resize":
            return len(self.shapes[node.input[0]]) == 4 and _attribute(node, "mode", b"nearest") in (
                b"nearest",
                b"linear",
            )
        return True

    def _moved(self, node: Any) -> list[str]:
        """The data that a mover reads, without shapes and axes."""
        names = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        return [name for name in names if name not in self.weights]

    def _groups(self, layers: list[Layer], functions: list[Function], movers: list[int]) -> tuple[Group, ...]:
        leader: dict[str, str] = {}

        def find(name: str) -> str:
            leader.setdefault(name, name)
            while leader[name] != name:
                leader[name] = leader[leader[name]]
                name = leader[name]
            return name

        floors: dict[str, float] = {}
        for layer in layers:
            find(layer.source)
            find(layer.result)
            floors[layer.result] = layer.floor
        fixed: dict[str, Scale] = {}
        for one in functions:
            for name in (*one.inputs, one.result):
                find(name)
            floors[one.result] = one.floor
            if one.kind == "Sigmoid":
                fixed[one.result] = SIGMOID
        moved = set()
        for index in movers:
            node = self.nodes[index]
            first = self._moved(node)[0]
            for name in (*self._moved(node), *filter(None, node.output)):
                leader[find(name)] = find(first)
            moved.update(node.output)
        relus = {node.output[0] for node in self.nodes if node.op_type in ("Relu", "Sigmoid")}
        order = [value.name for value in self.model.graph.input] + [n for node in self.nodes for n in node.output]
        members: dict[str, list[str]] = {}
        for name in order:
            if name in leader:
                members.setdefault(find(name), []).append(name)
        swishes = {one.node for one in functions if one.kind == "HardSwish"}
        groups = []
        for names in members.values():
            sources = tuple(name for name in names if name not in moved)
            ends = [floors.get(name, 0.0 if name in relus else -math.inf) for name in sources]
            floor = 0.0 if min(ends) == 0.0 else -math.inf
            read = {reader for name in names for reader in self.readers.get(name, [])}
            swished = len(names) == 1 and bool(read) and read <= swishes and names[0] not in self.outputs
            groups.append(
                Group(
                    names[0],
                    tuple(names),
                    sources,
                    max(floor, SWISH_FLOOR) if swished else floor,
                    swished and floor < SWISH_FLOOR,
                    fixed.get(names[0]),
                )
            )
        return tuple(groups)


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default
