"""What a TFLite file is made of: the generated schema, type numbers, and which version of an operator is enough."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.core import plugins

if TYPE_CHECKING:
    from edgeseg.backends.tflite.builder import Operator, Tensor

TENSOR_TYPES: dict[str, str] = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "bool": "BOOL",
}

OPTIONS: dict[str, str] = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "POW": "PowOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "FLOOR_MOD": "FloorModOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "RESHAPE": "ReshapeOptions",
    "SQUEEZE": "SqueezeOptions",
    "TRANSPOSE": "TransposeOptions",
    "CONCATENATION": "ConcatenationOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "SLICE": "SliceOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "GATHER": "GatherOptions",
    "GATHER_ND": "GatherNdOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "MIRROR_PAD": "MirrorPadOptions",
    "TILE": "TileOptions",
    "BROADCAST_TO": "BroadcastToOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "LOG_SOFTMAX": "LogSoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "GELU": "GeluOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "ARG_MAX": "ArgMaxOptions",
    "ARG_MIN": "ArgMinOptions",
    "CAST": "CastOptions",
    "SELECT_V2": "SelectV2Options",
    "EQUAL": "EqualOptions",
    "NOT_EQUAL": "NotEqualOptions",
    "GREATER": "GreaterOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
    "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions",
    "LOGICAL_AND": "LogicalAndOptions",
    "LOGICAL_OR": "LogicalOrOptions",
    "LOGICAL_NOT": "LogicalNotOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "CUMSUM": "CumsumOptions",
    "QUANTIZE": "QuantizeOptions",
    "DEQUANTIZE": "DequantizeOptions",
}
"""Options table of an operator; one that is not named here has none."""


@functools.cache
def generated() -> Any:
    """The Python classes of the TFLite schema, which come with LiteRT.

    Raises:
        MissingDependency: The package is not installed.
    """
    plugins.require("flatbuffers", extra="tflite", what="writing TFLite")
    return plugins.require("ai_edge_litert.schema_py_generated", extra="tflite", what="writing TFLite")


def tensor_type(dtype: np.dtype[Any]) -> int:
    """Number of a TFLite tensor type."""
    return int(getattr(generated().TensorType, TENSOR_TYPES[dtype.name]))


def version(op: Operator, tensors: Sequence[Tensor]) -> int:
    """The lowest version of an operator that covers this use, so that old runtimes load the file.

    Source: the version rules of TensorFlow Lite's `tools/versioning/op_version.cc`.
    """
    inputs = [tensors[index] for index in op.inputs if index >= 0]
    first = inputs[0].dtype.name
    rank = max((len(tensor.shape) for tensor in inputs), default=0)
    int8 = any(tensor.dtype.name in ("int8", "uint8") and tensor.quantization for tensor in inputs)
    kind, options = op.kind, op.options
    broadcast5 = rank > 4 and len({tensor.shape for tensor in inputs}) > 1
    match kind:
        case "BROADCAST_TO":
            return 3 if int8 else 2
        case "TRANSPOSE_CONV":
            return 4 if options.get("fusedActivationFunction") else 3
        case "RESIZE_BILINEAR" | "RESIZE_NEAREST_NEIGHBOR":
            if options.get("halfPixelCenters") or (kind[7] == "N" and options.get("alignCorners")):
                return 3
            return 2 if int8 else 1
        case "CONV_2D":
            return 3 if int8 else 1
        case "FULLY_CONNECTED":
            return 5 if options.get("keepNumDims") else 1
        case "DEPTHWISE_CONV_2D":
            return 3 if int8 else 2 if max(options["dilationHFactor"], options["dilationWFactor"]) > 1 else 1
        case "SUB":
            return 4 if first == "int64" else 3 if broadcast5 else 1
        case "ADD":
            return 4 if first == "int64" else 2 if int8 else 1
        case "MAX_POOL_2D" | "AVERAGE_POOL_2D" | "LOGISTIC" | "SOFTMAX" | "MEAN":
            return 2 if int8 else 1
        case "MUL":
            if not int8:
                return 5 if first == "int64" else 1
            scales = [tensors[index].quantization for index in (*op.inputs, *op.outputs)]
            a, b, out = (scale.scale[0] if scale is not None else 1.0 for scale in scales)
            return 3 if a * b >= out else 2
        case "DIV":
            return 2 if broadcast5 else 1
        case "MAXIMUM" | "MINIMUM":
            return 3 if broadcast5 else 1
        case "SLICE":
            return 5 if rank > 4 else 2 if first in ("int8", "uint8") else 1
        case "STRIDED_SLICE":
            return 4 if rank > 4 else 3 if first == "bool" else 2 if first == "int8" else 1
        case "TRANSPOSE":
            return 4 if len(inputs[0].shape) > 4 else 3 if first == "bool" else 2 if first == "int8" else 1
        case "GATHER":
            return 4 if first == "int16" else 3 if first == "bool" else 2 if first == "int8" else 1
        case "PAD" | "PADV2":
            return 4 if len(inputs[0].shape) > 4 else 2 if first == "int8" else 1
        case "DEQUANTIZE":
            return 3 if first in ("float16", "int16") else 2 if first == "int8" else 1
        case "QUANTIZE":
            return 2 if tensors[op.outputs[0]].dtype.name == "int16" else 1
        case "SPLIT":
            return 3 if inputs[1].dtype.name == "int32" else 2 if inputs[1].dtype.name == "int8" else 1
        case "CONCATENATION" | "DEPTH_TO_SPACE" | "SPACE_TO_DEPTH" | "SPLIT_V" | "EQUAL" | "NOT_EQUAL" | "ARG_MAX":
            return 2 if first == "int8" else 1
    return 1
