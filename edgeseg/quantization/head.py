"""The layer that makes a network's scores, and shifting what it makes.

Biases are corrected layer by layer for what rounding takes from their channels' means, but not for what all of it together
does where two classes are nearly level: an error of one sign there makes one class's masks larger on the whole. A shift of
the last bias takes it back for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.quantization.parts import Layer, Placement

if TYPE_CHECKING:
    import onnx

PASSES = ("Relu", "Resize", "Identity")
"""Between the layer and the output: what is added to a channel is added to its scores, where they are not cut off."""


def head_of(placement: Placement, channels: int) -> Layer | None:
    """The integer layer whose channels are the scores.

    Args:
        placement: What is quantised.
        channels: How many scores a pixel has.
    """
    nodes = placement.model.graph.node
    makers = {name: index for index, node in enumerate(nodes) for name in node.output}
    layers = {layer.node: layer for layer in placement.layers}
    index = makers.get(placement.model.graph.output[0].name)
    while index is not None and nodes[index].op_type in PASSES:
        index = makers.get(nodes[index].input[0])
    layer = layers.get(index) if index is not None else None
    return layer if layer is not None and len(placement.weights[layer.weight]) == channels else None


def shifted(model: onnx.ModelProto, name: str, shift: Sequence[float]) -> onnx.ModelProto:
    """A network in which something is added to each channel that a convolution makes.

    Args:
        model: It is not changed.
        name: The convolution's output.
        shift: [O].
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    [conv] = [node for node in copy.graph.node if name in node.output]
    bias = np.zeros(len(shift), np.float32)
    if len(conv.input) > 2 and conv.input[2]:
        bias = numpy_helper.to_array(constants[conv.input[2]])
    del conv.input[2:]
    conv.input.append(f"{name}.shifted")  # of its own: others may read the old one
    copy.graph.initializer.append(
        numpy_helper.from_array((bias + np.asarray(shift, np.float64)).astype(np.float32), conv.input[2])
    )
    return copy
