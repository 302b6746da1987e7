"""The network as if it were quantised, in float, with every choice fed at run time: one session for all trials.

Opening a session for each trial would cost more than running it. So weights, biases and scales are inputs of one graph,
and a scale that changes nothing switches a tensor's quantisation off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.core import plugins
from edgeseg.core.arrays import Array
from edgeseg.quantization.parts import Placement
from edgeseg.quantization.scales import LEVELS, Scale, quantise_weights

if TYPE_CHECKING:
    import onnx

    from edgeseg.quantization.ranges import Watched

_OFF = np.float32(1e30)


def session_of(model: onnx.ModelProto) -> Any:
    """An ONNX Runtime session whose idle threads sleep."""
    ort = plugins.require("onnxruntime", extra="", what="quantising")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Simulation:
    """Runs a network with any choice of scales and float layers.

    Args:
        placement: Everything that could be quantised.
        seen: The watched tensors, for bias correction.
        correct: Whether biases are corrected.
    """

    def __init__(self, placement: Placement, seen: Mapping[str, Watched], *, correct: bool = True) -> None:
        self._placement = placement
        self._seen = seen
        self._correct = correct
        self._groups = placement.group_of()
        model = _with_inputs(placement)
        self._output = model.graph.output[0].name
        self._session = session_of(model)
        self._cache: dict[tuple[str, Scale | None], tuple[Array, Array]] = {}

    def run(
        self,
        feed: Mapping[str, Array],
        scales: Mapping[str, Scale],
        floating: frozenset[str],
        layers: frozenset[str] = frozenset(),
    ) -> Array:
        """The network's first output.

        Args:
            feed: The network's inputs.
            scales: Group name to scale.
            floating: Names of groups that are left in float, with the layers that read or write them.
            layers: Names of layers that are left in float, with the groups that only they read and write.
        """
        floating = floating | self._between(layers)
        feeds: dict[str, Array] = dict(feed)
        for layer in self._placement.layers:
            source, result = self._groups[layer.source], self._groups[layer.result]
            off = source.name in floating or result.name in floating or layer.name in layers
            feeds[f"{layer.name}.weight"], feeds[f"{layer.name}.bias"] = self._weights(
                layer.name, None if off else scales[source.name]
            )
        for group in self._placement.groups:
            scale = scales[group.name]
            if group.name in floating:  # x + 0 and no ends: a step of zero cannot be divided by, a tiny one loses bits
                step, low, high = np.float32(2.0**-20), -_OFF, _OFF
            else:
                step, low, high = np.float32(scale.step), np.float32(-scale.zero), np.float32(LEVELS - scale.zero)
            feeds[f"{group.name}.step"] = np.asarray(step, np.float32)
            feeds[f"{group.name}.low"] = np.asarray(low, np.float32)
            feeds[f"{group.name}.high"] = np.asarray(high, np.float32)
        return self._session.run([self._output], feeds)[0]

    def _between(self, layers: frozenset[str]) -> frozenset[str]:
        """The groups that no integer layer or sum reads or writes when these layers are in float."""
        if not layers:
            return frozenset()
        needed = {
            self._groups[name].name
            for layer in self._placement.layers
            if layer.name not in layers
            for name in (layer.source, layer.result)
        }
        needed |= {self._groups[name].name for one in self._placement.functions for name in (*one.inputs, one.result)}
        return frozenset(self._groups[name].name for name in self._groups) - needed

    def _weights(self, name: str, scale: Scale | None) -> tuple[Array, Array]:
        key = (name, scale)
        if key not in self._cache:
            layer = next(layer for layer in self._placement.layers if layer.name == name)
            weight = self._placement.weights[layer.weight].astype(np.float32)
            bias = self._placement.weights[layer.bias] if layer.bias else None
            if scale is None:
                real = weight, np.zeros(len(weight), np.float32) if bias is None else bias.astype(np.float32)
            else:
                means = self._seen[layer.source].means if self._correct else None
                found = quantise_weights(weight, bias, scale, means)
                real = found.real(), (found.bias * (np.float64(scale.step) * found.steps)).astype(np.float32)
            self._cache[key] = real
        return self._cache[key]


def _with_inputs(placement: Placement) -> onnx.ModelProto:
    """The graph with weights, biases and the scales of all sources as inputs."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.ModelProto()
    model.CopyFrom(placement.model)
    graph = model.graph
    layers = {layer.node: layer for layer in placement.layers}
    fed = {layer.weight for layer in placement.layers}
    kept = [tensor for tensor in graph.initializer if tensor.name not in fed]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    known = {value.name for value in graph.input}

    def declare(name: str, shape: tuple[int, ...]) -> None:
        if name not in known:
            known.add(name)
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    quantised = {name: group for group in placement.groups for name in group.sources}
    for group in placement.groups:
        for end in ("step", "low", "high"):
            declare(f"{group.name}.{end}", ())
    nodes: list[Any] = []

    def quantise(name: str) -> None:
        group = quantised[name].name
        parts = [f"{name}.sim{index}" for index in range(3)]
        nodes.extend(
            [
                helper.make_node("Div", [name, f"{group}.step"], [parts[0]]),
                helper.make_node("Round", [parts[0]], [parts[1]]),
                helper.make_node("Clip", [parts[1], f"{group}.low", f"{group}.high"], [parts[2]]),
                helper.make_node("Mul", [parts[2], f"{group}.step"], [f"{name}.sim"]),
            ]
        )

    for value in placement.model.graph.input:
        if value.name in quantised:
            quantise(value.name)
    for index, node in enumerate(placement.model.graph.node):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        layer = layers.get(index)
        for place, name in enumerate(copy.input):
            if name in quantised:
                copy.input[place] = f"{name}.sim"
        if layer is not None:
            declare(f"{layer.name}.weight", placement.weights[layer.weight].shape)
            declare(f"{layer.name}.bias", placement.weights[layer.weight].shape[:1])
            del copy.input[1:]
            copy.input.extend([f"{layer.name}.weight", f"{layer.name}.bias"])
        nodes.append(copy)
        for name in node.output:
            if name in quantised:
                quantise(name)
    del graph.node[:]
    graph.node.extend(nodes)
    for value in graph.output:
        if value.name in quantised:
            value.name = f"{value.name}.sim"
    return model
