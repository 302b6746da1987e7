"""Q/DQ pairs around an operator become one integer operator: on ONNX level, before anything is lowered.

``DequantizeLinear → Conv → QuantizeLinear`` is how ONNX spells an int8 convolution. Written node by node it would be a
float convolution between conversions; put together it is one kernel of integers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeseg.backends.tflite.prepare import Graph, Node
from edgeseg.core.operators import MOVERS

CONV, ADD, MUL = "edgeseg.IntegerConv", "edgeseg.IntegerAdd", "edgeseg.IntegerMul"
LOGISTIC, MEAN = "edgeseg.IntegerLogistic", "edgeseg.IntegerMean"
"""Operators of our own, for the lowerings alone.

Inputs of CONV: x, its scale and zero point, weights, their scales, bias (or empty), scale and zero point of the result.
Inputs of the others: each operand, its scale and zero point, and then scale and zero point of the result. All keep the
attributes of what they stand for, and have ``activation`` where a ReLU was folded.
"""

SIGMOID = (1.0 / 256.0, -128)
"""Scale and zero point of the only result that LOGISTIC of int8 has."""

_FUNCTIONS = {"Add": ADD, "Mul": MUL, "Sigmoid": LOGISTIC, "GlobalAveragePool": MEAN}


def fold_pairs(graph: Graph) -> None:
    """Rewrite `graph.nodes` in place."""
    _Folder(graph).run()


class _Folder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.readers = graph.consumers()

    def run(self) -> None:
        changed: dict[int, list[Node]] = {}
        for node in self.graph.nodes:
            if node.domain:
                continue
            new = None
            if node.op == "Conv":
                new = self._conv(node)
            elif node.op in _FUNCTIONS:
                new = self._function(node)
            elif node.op in MOVERS:
                new = self._mover(node)
            if new is not None:
                whole, gone = new
                changed[id(node)] = [whole]
                for one in gone:
                    changed[id(one)] = []
        if changed:
            self.graph.nodes[:] = [new for node in self.graph.nodes for new in changed.get(id(node), [node])]

    def _conv(self, node: Node) -> tuple[Node, list[Node]] | None:
        x = self._dequantised(node.inputs[0])
        weight = self._dequantised(node.inputs[1])
        if x is None or weight is None or weight.inputs[0] not in self.graph.constants:
            return None
        if self.graph.constants[weight.inputs[0]].dtype != np.int8 or int(weight.get("axis", 1)) != 0:
            return None
        if x.inputs[0] in self.graph.constants or self._zeroes(weight):
            return None
        bias = ""
        if len(node.inputs) > 2 and node.inputs[2]:
            stored = self._dequantised(node.inputs[2])
            if stored is None or self.graph.constants.get(stored.inputs[0], np.empty(0)).dtype != np.int32:
                return None
            bias = stored.inputs[0]
        found = self._quantised(node.outputs[0])
        if found is None:
            return None
        activation, last, gone = found
        inputs = (*x.inputs, weight.inputs[0], weight.inputs[1], bias, *last.inputs[1:])
        return self._whole(node, CONV, inputs, activation, last), gone

    def _function(self, node: Node) -> tuple[Node, list[Node]] | None:
        parts = [self._dequantised(name) for name in node.inputs]
        found = self._quantised(node.outputs[0])
        if found is None or any(part is None for part in parts):
            return None
        numbers = [
            self.graph.constants[name] for part in parts if part for name in part.inputs[:1] if self._known(name)
        ]
        if len(numbers) == len(parts) or any(data.size != 1 or data.dtype != np.int8 for data in numbers):
            return None
        activation, last, gone = found
        if node.op == "Sigmoid" and self._scale(last) != SIGMOID:
            return None
        inputs = (*(name for part in parts if part is not None for name in part.inputs), *last.inputs[1:])
        return self._whole(node, _FUNCTIONS[node.op], inputs, activation, last), gone

    def _known(self, name: str) -> bool:
        return name in self.graph.constants

    def _mover(self, node: Node) -> tuple[Node, list[Node]] | None:
        """A mover between pairs of one scale works on the integers themselves."""
        count = len(node.inputs) if node.op == "Concat" else 1
        parts = [self._dequantised(name) for name in node.inputs[:count]]
        if any(part is None or part.inputs[0] in self.graph.constants for part in parts):
            return None
        scales = {self._scale(part) for part in parts if part is not None}
        lasts = []
        for name in filter(None, node.outputs):
            found = self._quantised(name)
            if found is None or found[0]:
                return None
            lasts.append(found[1])
            scales.add(self._scale(found[1]))
        if len(scales) != 1:
            return None
        inputs = (*(part.inputs[0] for part in parts if part is not None), *node.inputs[count:])
        return replace(node, inputs=inputs, outputs=tuple(last.outputs[0] for last in lasts)), lasts

    def _whole(self, node: Node, op: str, inputs: tuple[str, ...], activation: str, last: Node) -> Node:
        attributes: dict[str, Any] = {**node.attributes, "activation": activation}
        return replace(node, op=op, inputs=inputs, outputs=last.outputs, attributes=attributes, proto=None)

    def _dequantised(self, name: str) -> Node | None:
        node = self.makers.get(name)
        return node if node is not None and node.op == "DequantizeLinear" and len(node.inputs) == 3 else None

    def _quantised(self, name: str) -> tuple[str, Node, list[Node]] | None:
        """The activation and the Q node that alone read a value, and what goes with them."""
        gone: list[Node] = []
        activation = ""
        while True:
            readers = self.readers.get(name, [])
            if len(readers) != 1 or name in self.graph.outputs:
                return None
            [node] = readers
            gone.append(node)
            if node.op == "Relu" and not activation:
                activation, name = "RELU", node.outputs[0]
                continue
            if node.op != "QuantizeLinear" or len(node.inputs) != 3:
                return None
            scale, zero = (self.graph.constants.get(item) for item in node.inputs[1:])
            if scale is None or scale.size != 1 or zero is None or zero.dtype != np.int8:
                return None
            return activation, node, gone

    def _scale(self, node: Node) -> tuple[float, int]:
        scale, zero = (self.graph.constants[name].reshape(-1) for name in node.inputs[1:])
        return float(scale[0]), int(zero[0])

    def _zeroes(self, node: Node) -> bool:
        return bool(self.graph.constants[node.inputs[2]].any())
