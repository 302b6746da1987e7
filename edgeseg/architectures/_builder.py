"""Building an ONNX graph op by op with static shapes, taking parameters from a checkpoint and checking each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeseg import __version__
from edgeseg.core.arrays import Array
from edgeseg.core.errors import CheckpointError

if TYPE_CHECKING:
    import onnx


OPSET = 17
"""Old enough for every runtime of the last years, new enough for all that is used here."""
IR_VERSION = 8


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name and its static shape, NCHW."""

    name: str
    shape: tuple[int, ...]


class GraphBuilder:
    """Collects nodes and weights of one graph; every method adds one step and returns its output.

    Args:
        name: Name of the graph.
        weights: Parameter name to array, as read from the checkpoint.
    """

    def __init__(self, name: str, weights: Mapping[str, Array]) -> None:
        self._name = name
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def parameter(self, name: str, shape: tuple[int, ...]) -> Array:
        """A parameter of the checkpoint, float64.

        Raises:
            CheckpointError: It is missing, or has another shape.
        """
        if name not in self._weights:
            raise CheckpointError(
                f"these weights are not a {self._name} network: the tensor {name} {list(shape)} is missing",
                "name the right architecture with --arch, or check that the checkpoint is complete",
            )
        value = self._weights[name]
        if tuple(value.shape) != shape:
            raise CheckpointError(
                f"these weights are not a {self._name} network: the tensor {name} is {list(value.shape)}, "
                f"expected {list(shape)}",
                "name the right architecture with --arch, or check that the checkpoint was trained with this layout",
            )
        return value.astype(np.float64)

    def conv_bn(
        self, x: Value, prefix: str, out: int, *, kernel: int, stride: int = 1, groups: int = 1, relu: bool, eps: float
    ) -> Value:
        """Convolution + batch norm (folded into its weights in float64) + optional ReLU.

        Args:
            x: [1, C, H, W].
            prefix: Parameters are ``<prefix>._conv.weight`` and ``<prefix>._batch_norm.*``, as PaddleSeg names them.
            out: Output channels.
            kernel: Kernel size, padded to keep the size at stride 1.
            stride: Stride in both directions.
            groups: Groups; equal to C for a depthwise convolution.
            relu: Whether a ReLU follows.
            eps: The batch norm's epsilon.
        """
        weight = self.parameter(f"{prefix}._conv.weight", (out, x.shape[1] // groups, kernel, kernel))
        gamma, beta, mean, variance = (
            self.parameter(f"{prefix}._batch_norm.{part}", (out,)) for part in ("weight", "bias", "_mean", "_variance")
        )
        if (variance + eps <= 0).any():
            raise CheckpointError(
                f"the tensor {prefix}._batch_norm._variance has values below 0, no variance has",
                "the checkpoint is damaged; take it from its source again",
            )
        scale = gamma / np.sqrt(variance + eps)
        pad = kernel // 2
        height, width = ((side + 2 * pad - kernel) // stride + 1 for side in x.shape[2:])
        shape = (1, out, height, width)
        inputs = [
            x.name,
            self.constant(f"{prefix}.weight", (weight * scale[:, None, None, None]).astype(np.float32)),
            self.constant(f"{prefix}.bias", (beta - mean * scale).astype(np.float32)),
        ]
        conv = self.op(
            "Conv", inputs, f"{prefix}.conv", shape,
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups,
        )  # fmt: skip
        return self.op("Relu", [conv.name], f"{prefix}.relu", shape) if relu else conv

    def constant(self, name: str, value: Array) -> str:
        """Add an initializer once; returns its name."""
        from onnx import numpy_helper

        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(
        self, kind: str, inputs: Sequence[str], output: str, shape: tuple[int, ...], **attributes: int | list[int] | str
    ) -> Value:
        """Add a node with one output."""
        from onnx import helper

        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return Value(output, shape)

    def split_channels(self, x: Value, prefix: str) -> tuple[Value, Value]:
        """The two halves of the channels."""
        from onnx import helper

        shape = (1, x.shape[1] // 2, *x.shape[2:])
        halves = Value(f"{prefix}.first", shape), Value(f"{prefix}.second", shape)
        self._nodes.append(
            helper.make_node("Split", [x.name], [half.name for half in halves], name=f"{prefix}.split", axis=1)
        )
        return halves

    def shuffle(self, x: Value, prefix: str, groups: int) -> Value:
        """Channel shuffle (ShuffleNet, arXiv 1707.01083): reshape to groups, transpose, reshape back."""
        _, channels, height, width = x.shape
        grouped = (1, groups, channels // groups, height, width)
        split = self.constant(f"shape.{'x'.join(map(str, grouped))}", np.array(grouped, np.int64))
        back = self.constant(f"shape.{'x'.join(map(str, x.shape))}", np.array(x.shape, np.int64))
        y = self.op("Reshape", [x.name, split], f"{prefix}.grouped", grouped)
        turned = (1, channels // groups, groups, height, width)
        y = self.op("Transpose", [y.name], f"{prefix}.turned", turned, perm=[0, 2, 1, 3, 4])
        return self.op("Reshape", [y.name, back], f"{prefix}.shuffled", x.shape)

    def concat(self, parts: Sequence[Value], output: str) -> Value:
        """Concatenate channels."""
        channels = sum(part.shape[1] for part in parts)
        return self.op("Concat", [part.name for part in parts], output, (1, channels, *parts[0].shape[2:]), axis=1)

    def resize(self, x: Value, output: str, size: tuple[int, ...]) -> Value:
        """Bilinear resize with half-pixel centres to (height, width)."""
        shape = (*x.shape[:2], *size)
        sizes = self.constant(f"shape.{'x'.join(map(str, shape))}", np.array(shape, np.int64))
        return self.op(
            "Resize", [x.name, "", "", sizes], output, shape,
            mode="linear", coordinate_transformation_mode="half_pixel",
        )  # fmt: skip

    def finish(self, inputs: Sequence[Value], outputs: Sequence[tuple[Value, int]]) -> onnx.ModelProto:
        """The model, checked.

        Args:
            inputs: The graph's inputs, float32.
            outputs: The graph's outputs, each with its ONNX element type.
        """
        import onnx
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(value.name, TensorProto.FLOAT, value.shape) for value in inputs],
            [helper.make_tensor_value_info(value.name, kind, value.shape) for value, kind in outputs],
            list(self._initializers.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="edgeseg",
            producer_version=__version__,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


class ParameterRecorder(GraphBuilder):
    """A builder that needs no weights: it answers every parameter with ones and remembers its shape."""

    def __init__(self, name: str) -> None:
        super().__init__(name, {})
        self.shapes: dict[str, tuple[int, ...]] = {}

    def parameter(self, name: str, shape: tuple[int, ...]) -> Array:
        """Remember the shape."""
        self.shapes[name] = shape
        return np.ones(shape)
