"""Two logits become their difference, and only one channel is resized.

With two classes everything hangs on ``d = foreground - background``: the mask is ``d > 0``, the probability of the
foreground ``sigmoid(d)``. A resize is linear, so it may be done to `d` alone. The output keeps its two channels: logits
become ``(0, d)``, of which masks and probabilities are those of before; a softmax becomes ``(sigmoid(-d), sigmoid(d))``,
and an argmax a comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.spec import ModelSpec
from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

ONE_IS_WORTH_IT = ("openvino",)
"""Backends whose resize of few channels costs more than the 1x1 convolution that takes the difference. Elsewhere bare
logits whose own convolution cannot make the difference (an activation stands between) were measured to gain nothing."""

_SIGNS = np.array([-1.0, 1.0])


def apply(net: Net, target: Target) -> int:
    """Change the head that the spec names, if it has two channels and ends in what is known."""
    spec = net.spec
    if spec is None or spec.output_name not in net.outputs or net.opset < 11:
        return 0
    makers, readers = net.makers(), net.readers()
    chain: list[onnx.NodeProto] = []  # from the two channels' maker to the output
    name = spec.output_name
    while (node := makers.get(name)) is not None and _passes(net, node):
        if name != spec.output_name and net.sole_reader(name, readers) is None:
            return 0
        chain.insert(0, node)
        name = node.input[0]
    kinds = [node.op_type for node in chain]
    labels, soft = kinds.count("ArgMax"), kinds.count("Softmax")
    if node is None or "Resize" not in kinds + ["Resize"] * (labels + soft) or net.shapes[name][:2] != (1, 2):
        return 0
    if labels > 1 or soft > 1 or (labels and kinds[-1] != "ArgMax") or not _agrees(spec, bool(labels), bool(soft)):
        return 0
    if labels and soft and kinds.index("Softmax") < len(kinds) - 2:
        return 0  # a resize of probabilities is not the resize of logits: the labels would differ
    alone = net.sole_reader(name, readers) is not None and channels.is_dense(net, node)
    alone = alone and target.precision != "int8"  # the two classes have been given their integers already
    if not (labels or soft or alone or target.backend in ONE_IS_WORTH_IT):
        return 0
    value = _difference(net, node, name, alone=alone)
    for step in chain:
        if step.op_type == "ArgMax":
            value = _labels(net, step, value)
        elif step.op_type != "Softmax":
            value = _step(net, step, value)
        elif not labels:  # before an argmax the order is all that counts
            value = net.add("Sigmoid", [value], net.fresh(f"{step.output[0]}.foreground"))
    net.remove(chain)
    if labels:
        net.add("Identity", [value], spec.output_name)
        return 1
    if soft:
        one = net.constant(np.ones(()), f"{spec.output_name}.one")
        other = net.add("Sub", [one, value], net.fresh(f"{spec.output_name}.background"))
        net.add("Concat", [other, value], spec.output_name, axis=1)
    else:  # a pad by one channel in front writes the zeros and needs no constant of them
        amounts = net.constant(np.array([0, 1, 0, 0, 0, 0, 0, 0], np.int64), f"{spec.output_name}.pads")
        net.add("Pad", [value, amounts], spec.output_name)
    return 1


def _passes(net: Net, node: onnx.NodeProto) -> bool:
    """Whether a node of the head can be done to the difference."""
    shape = net.shapes.get(node.input[0]) if node.input else None
    if shape is None or len(shape) != 4 or shape[:2] != (1, 2) or not net.is_image(node.input[0]):
        return False
    if node.op_type == "Resize":
        return channels.is_planar(net, node)
    if node.op_type == "Softmax":
        return net.opset >= 13 and attribute(node, "axis", -1) in (1, -3)
    if node.op_type == "ArgMax":
        return attribute(node, "axis", 0) in (1, -3) and not attribute(node, "select_last_index", 0)
    return node.op_type == "Identity"


def _agrees(spec: ModelSpec, labels: bool, soft: bool) -> bool:
    """Whether the spec describes the output that was found."""
    if labels:
        return spec.output_kind == "labels"
    kind = "probabilities" if soft else "logits"
    return spec.output_kind == kind and spec.output_layout == "nchw" and spec.output_channels == 2


def _difference(net: Net, maker: onnx.NodeProto, name: str, *, alone: bool) -> str:
    """Channel 1 minus channel 0: in the convolution's own weights where they are its whole output, else behind it."""
    if alone:
        conv = channels.copied(net, maker, f"{name}.difference")
        for place in range(1, len(conv.input)):
            data = net.constants[conv.input[place]].astype(np.float64)
            conv.input[place] = net.constant(data[1:] - data[:1], f"{conv.input[place]}.difference")
        return conv.output[0]
    weight = net.constant(_SIGNS.reshape(1, 2, 1, 1), f"{name}.signs")
    return net.add("Conv", [name, weight], net.fresh(f"{name}.difference"), kernel_shape=[1, 1])


def _step(net: Net, step: onnx.NodeProto, value: str) -> str:
    """A node of the head for one channel."""
    copy = channels.copied(net, step, f"{step.output[0]}.difference")
    copy.input[0] = value
    if step.op_type == "Resize" and len(copy.input) > 3 and copy.input[3]:
        sizes = net.constants[copy.input[3]].copy()
        sizes[1] = 1
        copy.input[3] = net.constant(sizes, f"{copy.output[0]}.size")
    return copy.output[0]


def _labels(net: Net, step: onnx.NodeProto, value: str) -> str:
    """The argmax: 1 where the difference is above 0; like argmax, a tie is class 0."""
    from onnx import TensorProto

    name = step.output[0]
    zero = net.constant(np.zeros(()), f"{name}.zero")
    above = net.add("Greater", [value, zero], net.fresh(f"{name}.above"))
    number = net.add("Cast", [above], net.fresh(f"{name}.number"), to=TensorProto.INT64)
    if attribute(step, "keepdims", 1):
        return number
    if net.opset < 13:
        return net.add("Squeeze", [number], net.fresh(f"{name}.plane"), axes=[1])
    axis = net.constant(np.array([1], np.int64), f"{name}.axis")
    return net.add("Squeeze", [number, axis], net.fresh(f"{name}.plane"))


REWRITE = Rewrite(order=40, pays=("onnx-fp*", "openvino-*"), apply=apply, carries=True)
