"""Two logits become their difference: one channel is resized instead of two.

With two classes everything hangs on ``d = foreground - background``: the mask is ``d > 0``, the probability of the
foreground ``sigmoid(d)``. A resize is linear, so it may be done to `d` alone. A softmax becomes a sigmoid, and an argmax a
comparison whose labels are those of before. The spec says what the output is now; masks and probabilities are the same.

Bare logits whose convolution cannot make the difference itself (an activation stands between) are left alone: half of a
resize was measured to be worth no more than the convolution that takes the difference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.graph import channels
from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

_SIGNS = np.array([-1.0, 1.0])


def apply(net: Net, target: Target) -> int:
    """Change the head that the spec names, if it has two channels and ends in what is known."""
    spec = net.spec
    if spec is None or spec.output_name not in net.outputs:
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
    if node is None or not chain or net.shapes[name][:2] != (1, 2):
        return 0
    if labels > 1 or soft > 1 or (labels and kinds[-1] != "ArgMax") or not _agrees(net, bool(labels), bool(soft)):
        return 0
    if labels and soft and kinds.index("Softmax") < len(kinds) - 2:
        return 0  # a resize of probabilities is not the resize of logits: the labels would differ
    alone = net.sole_reader(name, readers) is not None and channels.is_dense(net, node)
    if not (labels or soft or alone):
        return 0
    value = _difference(net, node, name, alone=alone)
    for step in chain:
        value = _step(net, step, value, last=step is chain[-1], labelled=bool(labels))
    net.remove(chain)
    if not labels:
        net.spec = replace(spec, output_channels=1)
        net.resize_output(spec.output_name, (1, 1, *net.shapes[spec.output_name][2:]))
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


def _agrees(net: Net, labels: bool, soft: bool) -> bool:
    """Whether the spec describes the output that was found."""
    assert net.spec is not None
    if labels:
        return net.spec.output_kind == "labels"
    kind = "probabilities" if soft else "logits"
    return net.spec.output_kind == kind and net.spec.output_layout == "nchw" and net.spec.output_channels == 2


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


def _step(net: Net, step: onnx.NodeProto, value: str, *, last: bool, labelled: bool) -> str:
    """One node of the head for one channel; the last one writes the output's own name."""
    from onnx import TensorProto

    output = step.output[0] if last else net.fresh(f"{step.output[0]}.difference")
    if step.op_type == "Softmax":
        # Before an argmax the order is all that counts.
        return net.add("Identity" if labelled else "Sigmoid", [value], output)
    if step.op_type == "ArgMax":
        zero = net.constant(np.zeros((), np.float32), f"{output}.zero")
        above = net.add("Greater", [value, zero], net.fresh(f"{output}.above"))
        if attribute(step, "keepdims", 1):
            return net.add("Cast", [above], output, to=TensorProto.INT64)
        number = net.add("Cast", [above], net.fresh(f"{output}.number"), to=TensorProto.INT64)
        if net.opset < 13:
            return net.add("Squeeze", [number], output, axes=[1])
        return net.add("Squeeze", [number, net.constant(np.array([1], np.int64), f"{output}.axis")], output)
    copy = channels.copied(net, step, output)
    copy.output[0], copy.input[0] = output, value
    if step.op_type == "Resize" and len(copy.input) > 3 and copy.input[3]:
        sizes = net.constants[copy.input[3]].copy()
        sizes[1] = 1
        copy.input[3] = net.constant(sizes, f"{output}.size")
    return output


REWRITE = Rewrite(order=40, pays=("onnx-*", "tflite-*"), apply=apply)
