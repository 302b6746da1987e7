"""Clean-up of a finished subgraph: what nobody reads goes, and neighbours that one operator can do become one."""

from __future__ import annotations

import numpy as np

from edgeseg.backends.tflite.builder import Builder, Operator, live_operators
from edgeseg.core.arrays import Array

_HOSTS = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV",
    "FULLY_CONNECTED",
    "ADD",
    "SUB",
    "MUL",
    "DIV",
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
)
_ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1")
_ACTIVATION = "fusedActivationFunction"


def fuse(builder: Builder) -> None:
    """Shorten `builder.operators` in place; every output keeps its values."""
    _prune(builder)
    _merge_reshapes(builder)
    _compose_pointwise(builder)
    _fuse_activations(builder)
    _prune(builder)


def _prune(builder: Builder) -> None:
    builder.operators = live_operators(builder, builder.outputs.values())


class Links:
    """Who writes and how many read each tensor."""

    def __init__(self, builder: Builder) -> None:
        self.makers = {index: op for op in builder.operators for index in op.outputs}
        self.reads: dict[int, int] = {}
        for index in (*builder.outputs.values(), *(index for op in builder.operators for index in op.inputs)):
            self.reads[index] = self.reads.get(index, 0) + 1

    def sole(self, index: int, *kinds: str) -> Operator | None:
        """The operator of one of these kinds that writes a tensor which is read only once."""
        op = self.makers.get(index)
        return op if op is not None and op.kind in kinds and self.reads[index] == 1 else None


def _merge_reshapes(builder: Builder) -> None:
    """A RESHAPE of a RESHAPE needs only the last shape."""
    makers: dict[int, Operator] = {}
    for op in builder.operators:
        before = makers.get(op.inputs[0]) if op.kind == "RESHAPE" else None
        if before is not None and before.kind == "RESHAPE":
            op.inputs[0] = before.inputs[0]
        for index in op.outputs:
            makers[index] = op
    _prune(builder)


def _fuse_activations(builder: Builder) -> None:
    """RELU, RELU6 and RELU_N1_TO_1 become options of what they follow."""
    links = Links(builder)
    kept: list[Operator] = []
    for op in builder.operators:
        host = links.sole(op.inputs[0], *_HOSTS) if op.kind in _ACTIVATIONS else None
        if host is None or _ACTIVATION in host.options or builder.tensors[op.outputs[0]].dtype != np.float32:
            kept.append(op)
            continue
        host.options[_ACTIVATION] = op.kind
        host.outputs = op.outputs
        links.makers[op.outputs[0]] = host
    builder.operators = kept


def _compose_pointwise(builder: Builder) -> None:
    """A 1x1 convolution that follows another convolution, with at most a RESIZE_BILINEAR between, joins it.

    All three are linear, and a bilinear resize mixes pixels with weights that sum to 1 and never channels, so
    ``B(resize(A x + a)) + b = resize(B A x + B a + b)``. Only where no work is added: B has no more outputs than A.
    """
    links = Links(builder)
    for op in builder.operators:
        if op.kind != "CONV_2D" or _dense(builder, op) is None:
            continue
        resize = links.sole(op.inputs[0], "RESIZE_BILINEAR")
        first = links.sole(resize.inputs[0] if resize else op.inputs[0], "CONV_2D")
        if first is None or _ACTIVATION in first.options or not _pointwise(builder, op):
            continue
        inner, outer = _dense(builder, first), _dense(builder, op)
        if inner is None or outer is None or len(outer[0]) > len(inner[0]):
            continue
        matrix = outer[0][:, 0, 0, :]
        weights = np.einsum("oc,chwi->ohwi", matrix, inner[0]).astype(np.float32)
        bias = (matrix @ inner[1] + outer[1]).astype(np.float32)
        name = builder.tensors[op.outputs[0]].name
        first.inputs = [
            first.inputs[0],
            builder.constant(weights, f"{name}/weights"),
            builder.constant(bias, f"{name}/bias"),
        ]
        if resize is None:
            first.outputs = op.outputs
        else:  # a tensor of its own: the old one was the value before the second convolution
            small = builder.tensors[first.outputs[0]]
            shape = (*small.shape[:3], len(weights))
            first.outputs = [builder.tensor(f"{name}/small", shape, small.dtype)]
            resize.inputs[0] = first.outputs[0]
            resize.outputs = op.outputs
            links.makers[first.outputs[0]] = first
            links.reads[first.outputs[0]] = 1
        links.makers[op.outputs[0]] = resize or first  # the next one of a chain joins them, not what is gone
        op.outputs = []
    builder.operators = [op for op in builder.operators if op.outputs]


def _dense(builder: Builder, op: Operator) -> tuple[Array, Array] | None:
    """A CONV_2D's constant weights [O, kh, kw, I] and bias in float64, unless it works in groups."""
    weights, bias = (builder.tensors[index].data for index in op.inputs[1:3])
    if weights is None or bias is None or weights.shape[3] != builder.tensors[op.inputs[0]].shape[3]:
        return None
    return weights.astype(np.float64), bias.astype(np.float64)


def _pointwise(builder: Builder, op: Operator) -> bool:
    kernel = builder.tensors[op.inputs[1]].shape[1:3]
    return kernel == (1, 1) and op.options["strideH"] == op.options["strideW"] == 1
