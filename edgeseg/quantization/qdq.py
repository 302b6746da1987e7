"""The choice written down: an ONNX graph with Q/DQ pairs that stands for integer kernels and nothing else.

One calibration, and for each runtime the spelling that it turns into its integer kernels: the scales and the integer
weights are the same in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.marks import UNROUNDED
from edgeseg.quantization.parts import FUNCTIONS, SWISH_FLOOR, Function, Group, Layer, Placement
from edgeseg.quantization.scales import LEVELS, Scale, Weights, quantise_weights

if TYPE_CHECKING:
    import onnx

    from edgeseg.quantization.ranges import Watched

FIRST_OPSET = 13
"""From here on DequantizeLinear has scales per channel."""

ROOT = 6**-0.5
"""What the input of a hard swish is multiplied by; see `_Writer._swish`."""


@dataclass(frozen=True)
class Spelling:
    """How the same choice is written for one runtime.

    Attributes:
        activations: ``u8``, or ``s8`` with everything stored 128 lower.
        movers: How operators that move elements are written: on the ``integers`` themselves, between Q/DQ ``pairs``
            that the runtime takes away, or in ``float`` for a runtime that carries the scales past them itself.
        paired: Whether weights are kept within what x86 kernels before VNNI can add.
        functions: Kinds of functions that the runtime computes faster in integers; the others are between pairs in float.
        within: Whether functions in float read what was not rounded yet, because the runtime computes them within the
            kernel before.
        swish: How hard swishes are put together: with a ``sum``, or with a ``clip`` of the integers themselves, where the
            scale begins at their zero; see `_Writer._swish`.
        tiled: Whether gates of products are repeated along the rows first, for a kernel that takes one run of equal
            shapes at a time.
    """

    activations: Literal["u8", "s8"] = "u8"
    movers: Literal["integers", "pairs", "float"] = "integers"
    paired: bool = True
    functions: tuple[str, ...] = FUNCTIONS
    within: bool = False
    swish: Literal["sum", "clip"] = "sum"
    tiled: bool = False


def write(
    placement: Placement,
    scales: Mapping[str, Scale],
    seen: Mapping[str, Watched],
    spelling: Spelling = Spelling(),
    *,
    correct: bool = True,
    weights: Mapping[str, Weights] | None = None,
) -> onnx.ModelProto:
    """The quantised graph.

    Args:
        placement: What is quantised, of a graph of `FIRST_OPSET` or newer.
        scales: Group name to scale.
        seen: The watched tensors, for bias correction; empty for none.
        spelling: For which runtime.
        correct: Whether biases are corrected.
        weights: Layer name to weights that are integers already; None to make them.

    Returns:
        A checked model with the inputs and outputs of the float graph.
    """
    return _Writer(
        placement, scales, spelling, weights or weights_of(placement, scales, seen, spelling, correct=correct)
    ).model()


def weights_of(
    placement: Placement,
    scales: Mapping[str, Scale],
    seen: Mapping[str, Watched],
    spelling: Spelling = Spelling(),
    *,
    correct: bool = True,
) -> dict[str, Weights]:
    """Layer name to its weights as integers; see `write`."""
    groups = placement.group_of()
    found = {}
    for layer in placement.layers:
        bias = placement.weights[layer.bias] if layer.bias else None
        means = seen[layer.source].means if correct and layer.source in seen else None
        scale = scales[groups[layer.source].name]
        found[layer.name] = quantise_weights(
            placement.weights[layer.weight], bias, scale, means, paired=spelling.paired
        )
    return found


class _Writer:
    def __init__(
        self,
        placement: Placement,
        scales: Mapping[str, Scale],
        spelling: Spelling,
        weights: Mapping[str, Weights],
    ) -> None:
        self.placement = placement
        self.groups = placement.group_of()
        self.scales = scales
        self.spelling = spelling
        self.weights = weights
        self.layers = {layer.node: layer for layer in placement.layers}
        self.functions = {one.node: one for one in placement.functions}
        items: tuple[Layer | Function, ...] = (*placement.layers, *placement.functions)
        self.gone = {item.activation for item in items if item.activation is not None and self._ends_alone(item)}
        # ONNX Runtime takes a convolution back to float if a ReLU or Clip stands between it and its QuantizeLinear.
        self.cut = (
            {item.activation for item in items if item.activation is not None and item.floor == 0.0} - self.gone
            if spelling.movers == "pairs"
            else set()
        )
        self.integer_results = {item.result for item in items}
        self.made = {layer.result for layer in placement.layers if layer.activation is None}
        self.ended = {item.result for item in items if item.activation in self.gone}
        self.movers = set(placement.movers)
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self._real: set[str] = set()
        self.rounded: dict[str, str] = {}  # tensor to what it was before it was rounded

    def _ends_alone(self, item: Layer | Function) -> bool:
        """Whether the ends of the scale do what the activation would."""
        low, high = self.scales[self.groups[item.result].name].ends
        return low >= item.floor and high <= getattr(item, "ceiling", np.inf) + 1e-6

    def model(self) -> onnx.ModelProto:
        import onnx
        from onnx import numpy_helper

        original = self.placement.model
        for value in original.graph.input:
            if value.name in self.groups:
                self._quantise(value.name, value.name)
        for index, node in enumerate(original.graph.node):
            self._node(index, node)
        model = onnx.ModelProto()
        model.CopyFrom(original)
        del model.graph.node[:], model.graph.value_info[:]
        outputs = {value.name for value in model.graph.output}
        for name in outputs & set(self.groups):
            self._float(name)
        self._sweep({value.name for value in model.graph.output})
        model.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(data), name) for name, data in self.constants.items() if name in read
        )
        onnx.checker.check_model(model)
        return model

    def _sweep(self, wanted: set[str]) -> None:
        """Drop what nobody reads: tensors that only float functions read, and those read them before they are rounded."""
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        self.nodes = kept[::-1]

    # Nodes

    def _node(self, index: int, node: Any) -> None:
        import onnx

        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if index in self.gone or index in self.cut:
            return
        if index in self.layers:
            self._layer(self.layers[index], copy)
        elif index in self.functions:
            self._function(self.functions[index], copy)
        elif index in self.movers:
            self._mover(copy)
        else:
            for place, name in enumerate(copy.input):
                if name in self.groups:
                    copy.input[place] = self._float(name)
            self._plain(copy)

    def _plain(self, node: Any) -> None:
        """A float node, or an activation that could not be folded."""
        for place, name in enumerate(node.output):
            if name in self.integer_results:
                node.output[place] = f"{name}.float"
        self.nodes.append(node)
        for name in node.output:
            plain = name.removesuffix(".float")
            if plain in self.groups and plain in self.groups[plain].sources:
                self.rounded[plain] = name
                self._quantise(plain, name)

    def _layer(self, layer: Layer, node: Any) -> None:
        weights = self.weights[layer.name]
        name = layer.name
        steps = weights.steps * np.float32(self._factor(self.groups[layer.result]))
        self.constants[f"{name}.weight.q"] = weights.stored
        self.constants[f"{name}.weight.step"] = steps
        self.constants[f"{name}.weight.zero"] = np.zeros(len(weights.steps), np.int8)
        self.constants[f"{name}.bias.q"] = weights.bias
        self.constants[f"{name}.bias.step"] = (np.float64(self._step(layer.source)) * steps).astype(np.float32)
        self.constants[f"{name}.bias.zero"] = np.zeros(len(weights.steps), np.int32)
        for part in ("weight", "bias"):
            self._emit(
                "DequantizeLinear",
                [f"{name}.{part}.{end}" for end in ("q", "step", "zero")],
                [f"{name}.{part}.real"],
                axis=0,
            )
        del node.input[:]
        node.input.extend([self._float(layer.source), f"{name}.weight.real", f"{name}.bias.real"])
        self._result(layer, node)

    def _function(self, one: Function, node: Any) -> None:
        whole = one.kind in self.spelling.functions
        if whole and one.kind == "HardSwish":
            self._swish(one)
            return
        for place, name in enumerate(one.inputs):
            inside = self.rounded.get(name) if self.spelling.within and not whole and name not in self.ended else None
            node.input[place] = inside or self._float(name)
        if whole and one.kind == "Mul" and self.spelling.tiled:
            self._tile(one, node)
        self._result(one, node)

    def _tile(self, one: Function, node: Any) -> None:
        """A gate [N, C, 1, 1] of a product as [N, C, 1, W]: times a row of ones, whose integers come out as they were."""
        shapes = [self.placement.shapes[name] for name in one.inputs]
        width = max(shape[3] for shape in shapes)
        for place, (name, shape) in enumerate(zip(one.inputs, shapes, strict=True)):
            if shape[2:] != (1, 1) or width == 1:
                continue
            top, kind = (255, np.uint8) if self.spelling.activations == "u8" else (127, np.int8)
            row = f"ones.{width}"
            self.constants[f"{row}.q"] = np.full((1, 1, 1, width), top, kind)
            self.constants[f"{row}.scale"] = np.array(1 / top, np.float32)
            self.constants[f"{row}.zero"] = np.array(0, kind)
            base = f"{one.result}.gate{place}"
            self._emit("DequantizeLinear", [f"{row}.{end}" for end in ("q", "scale", "zero")], [f"{base}.ones"])
            self._emit("Mul", [node.input[place], f"{base}.ones"], [f"{base}.float"])
            self._emit("QuantizeLinear", [f"{base}.float", *self._parameters(name)], [f"{base}.q"])
            self._emit("DequantizeLinear", [f"{base}.q", *self._parameters(name)], [base])
            node.input[place] = base

    def _swish(self, one: Function) -> None:
        """A hard swish as a sum and a product of integers: ``x * min(max(x + 3, 0), 6) / 6``.

        The ends of the sum's scale are the ends at 0 and 6. With all of ``x``, 3 and 6 divided by the root of 6 the product
        needs no factor behind it. Dividing ``x`` costs nothing: its integers are given another step. Where the scale of ``x``
        begins at -3 there is nothing to add: the integers, cut off at 6, are the gate's under a sixth of the step.
        """
        name, unsigned = one.result, self.spelling.activations == "u8"
        group = self.groups[one.inputs[0]]
        x = self._float(one.inputs[0])
        if self._clips(group):
            self._product(name, x, self._clipped(one, group))
            return
        if self._factor(group) == 1.0:
            x = f"{name}.root"
            step = self.constants[f"{group.name}.scale"] * ROOT
            self.constants[f"{name}.root.scale"] = np.asarray(step, np.float32)
            names = [f"{one.inputs[0]}.q", f"{name}.root.scale", f"{group.name}.zero"]
            self._emit("DequantizeLinear", names, [x])
        top, zero, kind = (255, 0, np.uint8) if unsigned else (127, -128, np.int8)
        for part, value in (("three.q", kind(top)), ("three.zero", kind(0)), ("gate.zero", kind(zero))):
            self.constants[f"swish.{part}"] = np.array([value] if part == "three.q" else value)
        self.constants["swish.three.scale"] = np.array(3 * ROOT / top, np.float32)
        self.constants["swish.gate.scale"] = np.array(6 * ROOT / LEVELS, np.float32)
        self._emit("DequantizeLinear", [f"swish.three.{end}" for end in ("q", "scale", "zero")], [f"{name}.three"])
        self._emit("Add", [x, f"{name}.three"], [f"{name}.sum"])
        scale = ["swish.gate.scale", "swish.gate.zero"]
        self._emit("QuantizeLinear", [f"{name}.sum", *scale], [f"{name}.gate.q"])
        self._emit("DequantizeLinear", [f"{name}.gate.q", *scale], [f"{name}.gate"])
        self._product(name, x, f"{name}.gate")

    def _product(self, name: str, x: str, gate: str) -> None:
        self._emit("Mul", [x, gate], [f"{name}.float"])
        self.rounded[name] = f"{name}.float"
        self._quantise(name, f"{name}.float")

    def _clips(self, group: Group) -> bool:
        """Whether hard swishes that read a tensor clip its integers."""
        begin = self.scales[group.name].ends[0]
        return self.spelling.swish == "clip" and group.swish and abs(begin - SWISH_FLOOR) < 1e-5

    def _clipped(self, one: Function, group: Group) -> str:
        name, scale = one.result, self.scales[group.name]
        kind, bottom = (np.uint8, 0) if self.spelling.activations == "u8" else (np.int8, -128)
        self.constants[f"{name}.gate.scale"] = np.array(np.float32(scale.step) / np.float32(6))
        self.constants[f"{name}.gate.zero"] = np.array(bottom, kind)
        stored = f"{one.inputs[0]}.q"
        if 2 * scale.zero < LEVELS:
            self.constants[f"{name}.gate.low"] = np.array(bottom, kind)
            self.constants[f"{name}.gate.high"] = np.array(bottom + 2 * scale.zero, kind)
            self._emit("Clip", [stored, f"{name}.gate.low", f"{name}.gate.high"], [f"{name}.gate.q"])
            stored = f"{name}.gate.q"
        self._emit("DequantizeLinear", [stored, f"{name}.gate.scale", f"{name}.gate.zero"], [f"{name}.gate"])
        return f"{name}.gate"

    def _result(self, item: Layer | Function, node: Any) -> None:
        """The output of an integer operator, quantised unless an activation comes in between."""
        if item.activation in self.cut:
            self._cut(item, node)
            return
        if item.activation is not None and item.activation not in self.gone:
            self.nodes.append(node)
            return
        node.output[0] = f"{item.result}.float"
        self.nodes.append(node)
        self.rounded[item.result] = node.output[0]
        self._quantise(item.result, node.output[0])

    def _cut(self, item: Layer | Function, node: Any) -> None:
        """An activation that the shared scale does not end at: one scale of its own from 0 on does, then the shared one."""
        top = min(self.scales[self.groups[item.result].name].ends[1], getattr(item, "ceiling", np.inf))
        names = [f"{item.result}.cut.scale", f"{item.result}.cut.zero"]
        self.constants[names[0]] = np.array(max(top, 1e-12) / LEVELS, np.float32)
        unsigned = self.spelling.activations == "u8"
        self.constants[names[1]] = np.array(0 if unsigned else -128, np.uint8 if unsigned else np.int8)
        node.output[0] = f"{item.result}.whole"
        self.nodes.append(node)
        self._emit("QuantizeLinear", [node.output[0], *names], [f"{item.result}.cut.q"])
        self._emit("DequantizeLinear", [f"{item.result}.cut.q", *names], [f"{item.result}.float"])
        self._quantise(item.result, f"{item.result}.float")

    def _mover(self, node: Any) -> None:
        moved = [place for place, name in enumerate(node.input) if name in self.groups]
        how = self.spelling.movers
        if node.doc_string == UNROUNDED and node.input[0] in self.rounded:
            result = node.output[0]
            node.input[0], node.output[0] = self.rounded[node.input[0]], f"{result}.float"
            self.nodes.append(node)
            self._quantise(result, node.output[0])
            return
        if how == "integers":
            for place in moved:
                node.input[place] = f"{node.input[place]}.q"
            for place, name in enumerate(node.output):
                if name:
                    node.output[place] = f"{name}.q"
            self.nodes.append(node)
            return
        for place in moved:
            node.input[place] = self._float(node.input[place])
        mixes = node.op_type == "Resize"
        for place, name in enumerate(node.output):
            if name and (how == "pairs" or mixes):
                node.output[place] = f"{name}.float"
        self.nodes.append(node)
        for name in node.output:
            if name.endswith(".float"):
                self._quantise(name.removesuffix(".float"), name)
            else:
                self._real.add(name)

    # Pairs

    def _factor(self, group: Group) -> float:
        """What a tensor is multiplied by on its way from the layer that makes it to hard swishes; see `_swish`."""
        summed = "HardSwish" in self.spelling.functions and not self._clips(group)
        return ROOT if group.swish and summed and group.name in self.made else 1.0

    def _step(self, tensor: str) -> np.float32:
        group = self.groups[tensor]
        return np.float32(self.scales[group.name].step * self._factor(group))

    def _parameters(self, tensor: str) -> list[str]:
        group = self.groups[tensor]
        scale = self.scales[group.name]
        names = [f"{group.name}.scale", f"{group.name}.zero"]
        self.constants[names[0]] = np.array(self._step(tensor))
        unsigned = self.spelling.activations == "u8"
        zero = scale.zero if unsigned else scale.zero - (LEVELS + 1) // 2
        self.constants[names[1]] = np.array(zero, np.uint8 if unsigned else np.int8)
        return names

    def _quantise(self, tensor: str, source: str) -> None:
        self._emit("QuantizeLinear", [source, *self._parameters(tensor)], [f"{tensor}.q"])

    def _float(self, tensor: str) -> str:
        """The quantised tensor as float, through one DequantizeLinear for all readers."""
        taken = tensor in {value.name for value in self.placement.model.graph.input} or (
            tensor in self.groups[tensor].sources and tensor not in self.integer_results
        )
        if tensor in self._real and not taken:
            return tensor
        name = f"{tensor}.real" if taken else tensor
        if name not in self._real:
            self._real.add(name)
            self._emit("DequantizeLinear", [f"{tensor}.q", *self._parameters(tensor)], [name])
        return name

    def _emit(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"{outputs[0]}.{op}", **attributes))
