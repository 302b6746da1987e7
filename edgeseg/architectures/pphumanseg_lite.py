"""ConnectNet, the ultra-light network of PP-HumanSeg (PaddleSeg's `PPHumanSegLite`).

Source: Chu et al., arXiv 2112.07146, and PaddleSeg's parameter names. Input [1, 3, H, W]; any size, also one that 16
does not divide, because the decoder resizes to its shortcut's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeseg.architectures._builder import GraphBuilder, ParameterRecorder, Value
from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError, unknown
from edgeseg.core.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

NAME = "pphumanseg-lite"
DEFAULT_SIZE = (398, 224)
SIGNATURE = (
    "conv_bn0._conv.weight",
    "conv_bn1._conv.weight",
    "block1.0._depthwise_separable_0.depthwise_conv._conv.weight",
    "block2.7._depthwise_separable_1.piontwise_conv._conv.weight",
    "depthwise_separable2.piontwise_conv._conv.weight",
)
HEADS = ("logits", "softmax", "argmax")
EPS = 1e-5
"""Epsilon of every batch norm."""
MIN_SIDE = 16
"""The encoder halves the picture four times; nothing is left of a smaller one."""


def build(
    weights: Mapping[str, Array], *, size: tuple[int, int] = DEFAULT_SIZE, head: str = "logits"
) -> tuple[onnx.ModelProto, ModelSpec]:
    """The deployable graph of a set of weights, batch norms folded.

    Args:
        weights: Parameter name to array, PaddleSeg's names; parameters that the network does not use may be there.
        size: (width, height) of the input in pixels.
        head: ``logits`` [1, 2, H, W], ``softmax`` (probabilities, same shape) or ``argmax`` (labels [1, H, W], int64).

    Returns:
        The model with static shapes, input ``image``, and its spec.

    Raises:
        CheckpointError: A tensor is missing or has another shape; the first such is named.
    """
    from onnx import TensorProto

    width, height = size
    if head not in HEADS:
        raise unknown("head", head, HEADS)
    if min(size) < MIN_SIDE:
        raise GraphError(f"input size {width}x{height} is too small for {NAME}", f"both sides at least {MIN_SIDE}")
    net = _Network(GraphBuilder(NAME, weights))
    image = Value("image", (1, 3, height, width))
    output = net.logits(image)
    kind, element = "logits", TensorProto.FLOAT
    if head == "softmax":
        output = net.graph.op("Softmax", [output.name], "probabilities", output.shape, axis=1)
        kind = "probabilities"
    elif head == "argmax":
        output = net.graph.op("ArgMax", [output.name], "labels", (1, height, width), axis=1, keepdims=0)
        kind, element = "labels", TensorProto.INT64
    spec = ModelSpec(
        name=NAME, width=width, height=height, input_name=image.name, output_name=output.name,
        output_kind=kind,  # type: ignore[arg-type]
        output_layout="nhw" if head == "argmax" else "nchw",
    )  # fmt: skip
    return net.graph.finish([image], [(output, element)]), spec


def parameters() -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter that the network uses, in the order of the layers."""
    recorder = ParameterRecorder(NAME)
    _Network(recorder).logits(Value("image", (1, 3, DEFAULT_SIZE[1], DEFAULT_SIZE[0])))
    return recorder.shapes


class _Network:
    """The layers, each under PaddleSeg's name."""

    def __init__(self, graph: GraphBuilder) -> None:
        self.graph = graph

    def logits(self, image: Value) -> Value:
        stem = self._conv(image, "conv_bn0", 36, kernel=3, stride=2)
        shortcut = self._conv(stem, "conv_bn1", 18, kernel=1)
        pooled = (1, 36, *((side - 1) // 2 + 1 for side in stem.shape[2:]))
        x = self.graph.op(
            "MaxPool", [stem.name], "pool", pooled, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        for stage, units, channels in (("block1", 4, 72), ("block2", 8, 144)):
            x = self._down_unit(x, f"{stage}.0", channels)
            for index in range(1, units):
                x = self._unit(x, f"{stage}.{index}")
        x = self._separable(x, "depthwise_separable0", 64)
        x = self.graph.resize(x, "decoder.up", shortcut.shape[2:])
        x = self.graph.concat([shortcut, x], "decoder.joined")
        x = self._separable(x, "depthwise_separable1", 64)
        x = self._separable(x, "depthwise_separable2", 2)
        return self.graph.resize(x, "logits", image.shape[2:])

    def _conv(
        self, x: Value, prefix: str, out: int, *, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> Value:
        return self.graph.conv_bn(x, prefix, out, kernel=kernel, stride=stride, groups=groups, relu=relu, eps=EPS)

    def _separable(self, x: Value, prefix: str, out: int, stride: int = 1) -> Value:
        """Depthwise 3x3 (no ReLU), then 1x1 + ReLU."""
        x = self._conv(
            x, f"{prefix}.depthwise_conv", x.shape[1], kernel=3, stride=stride, groups=x.shape[1], relu=False
        )
        return self._conv(x, f"{prefix}.piontwise_conv", out, kernel=1)  # PaddleSeg's spelling

    def _unit(self, x: Value, prefix: str) -> Value:
        """Half of the channels pass by, the other half goes through 1x1, depthwise 3x3, 1x1; then shuffle."""
        passing, branch = self.graph.split_channels(x, prefix)
        branch = self._conv(branch, f"{prefix}._conv", branch.shape[1], kernel=1)
        branch = self._separable(branch, f"{prefix}._depthwise_separable_1", branch.shape[1])
        return self._join(passing, branch, prefix)

    def _down_unit(self, x: Value, prefix: str, out: int) -> Value:
        """Both sides see all channels and halve the picture; each gives half of the output's channels."""
        left = self._separable(x, f"{prefix}._depthwise_separable_0", out // 2, stride=2)
        right = self._conv(x, f"{prefix}._conv", out // 2, kernel=1)
        right = self._separable(right, f"{prefix}._depthwise_separable_1", out // 2, stride=2)
        return self._join(left, right, prefix)

    def _join(self, left: Value, right: Value, prefix: str) -> Value:
        return self.graph.shuffle(self.graph.concat([left, right], f"{prefix}.joined"), prefix, groups=2)
