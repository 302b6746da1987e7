"""What every operator's kernel takes for granted, checked before a byte is written.

The interpreter trusts a file: a wrong shape, axis or divisor in it can end the process instead of raising an error. A
breach here is a fault of the writer, not of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeseg.backends.tflite import schema
from edgeseg.backends.tflite.builder import NO_TENSOR, Builder, Operator, Tensor
from edgeseg.backends.tflite.layout import Shape
from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError

MAX_ELEMENTS = 2**31 - 1
"""Kernels count elements in 32 bits."""


class Breach(Exception):
    """An operator or tensor that the interpreter cannot be trusted with; the text says what is wrong."""


def check(builder: Builder) -> None:
    """Check all tensors and operators of a finished subgraph.

    Raises:
        GraphError: The writer made something that the interpreter might crash on.
    """
    written = set(builder.inputs.values())
    try:
        for op in builder.operators:
            where = f"{op.kind} of {op.node}"
            for index in (*op.inputs, *op.outputs):
                if index != NO_TENSOR:
                    _tensor(builder.tensors[index])
            for index in op.inputs:
                if index != NO_TENSOR and builder.tensors[index].data is None and index not in written:
                    raise Breach("it reads a tensor that nothing has written")
            if written.intersection(op.outputs) or any(builder.tensors[i].data is not None for i in op.outputs):
                raise Breach("it writes a tensor that is written already")
            written.update(op.outputs)
            _CHECKS.get(op.kind, _elementwise)(_View(builder, op))
        where = "the outputs"
        for name, index in builder.outputs.items():
            if index not in written:
                raise Breach(f"nothing writes {name!r}")
        if len(set(builder.outputs.values())) != len(builder.outputs):
            raise Breach("two outputs share a tensor")
    except Breach as error:
        raise GraphError(
            f"the TFLite writer made a faulty operator, {where}: {error}",
            "nothing was written; please report the network",
        ) from error


def _tensor(tensor: Tensor) -> None:
    if tensor.dtype.name not in schema.TENSOR_TYPES:
        raise Breach(f"tensor {tensor.name!r} is {tensor.dtype.name}")
    if any(size < 1 for size in tensor.shape) or int(np.prod(tensor.shape, dtype=object)) > MAX_ELEMENTS:
        raise Breach(f"tensor {tensor.name!r} has the shape {tensor.shape}")
    if tensor.data is not None and (tensor.data.shape != tensor.shape or tensor.data.dtype != tensor.dtype):
        raise Breach(f"the buffer of {tensor.name!r} is {tensor.data.dtype} {tensor.data.shape}, not {tensor.shape}")


class _View:
    """An operator with its tensors at hand."""

    def __init__(self, builder: Builder, op: Operator) -> None:
        self.op = op
        self.tensors = [builder.tensors[index] for index in op.inputs if index != NO_TENSOR]
        self.shapes = [tensor.shape for tensor in self.tensors]
        self.results = [builder.tensors[index].shape for index in op.outputs]
        self.options: dict[str, Any] = op.options
        self._builder = builder

    @property
    def out(self) -> Shape:
        return self.results[0]

    def made_by(self, index: int, kind: str) -> bool:
        """Whether this kind of operator writes an input, or what the input is a view or a cast of."""
        tensor = self.op.inputs[index]
        makers = {out: op for op in self._builder.operators for out in op.outputs}
        while tensor in makers and makers[tensor].kind in ("RESHAPE", "TRANSPOSE", "CAST", "BROADCAST_TO"):
            tensor = makers[tensor].inputs[0]
        return tensor in makers and makers[tensor].kind == kind

    def constant(self, index: int) -> Array:
        data = self.tensors[index].data
        if data is None or data.dtype != np.int32:
            raise Breach(f"input {index} is not a constant of int32")
        return data

    def expect(self, truth: bool, what: str) -> None:
        if not truth:
            raise Breach(f"{what} ({self.shapes} -> {self.results})")


def _elementwise(v: _View) -> None:
    """Broadcasting, or one operand."""
    try:
        shape = tuple(np.broadcast_shapes(*v.shapes))
    except ValueError:
        shape = (-1,)
    v.expect(shape == v.out, "the operands do not broadcast to the result")
    types = {tensor.dtype for tensor in v.tensors[1 if v.op.kind == "SELECT_V2" else 0 :]}
    v.expect(len(types) == 1, "the operands are of different types")
    if v.op.kind in ("DIV", "FLOOR_MOD") and v.tensors[1].dtype.kind == "i":
        divisor = v.tensors[1].data
        safe = v.made_by(1, "SELECT_V2") if divisor is None else bool((divisor != 0).all())
        v.expect(safe, "an integer divisor may be 0")


def _convolution(v: _View) -> None:
    (batch, height, width, channels), kernel, bias = v.shapes
    depthwise = v.op.kind == "DEPTHWISE_CONV_2D"
    outputs = kernel[3] if depthwise else kernel[0]
    rows, columns = kernel[1], kernel[2]
    v.expect(len(kernel) == 4 and bias == (outputs,), "the filter and the bias do not fit")
    if depthwise:
        v.expect(outputs == channels * v.options["depthMultiplier"], "the filter does not fit the channels")
    else:
        v.expect(channels % kernel[3] == 0 and outputs % (channels // kernel[3]) == 0, "the groups do not fit")
    dilations = v.options["dilationHFactor"], v.options["dilationWFactor"]
    v.expect(min(dilations) > 0, "a dilation is not above 0")
    extents = [(size - 1) * step + 1 for size, step in zip((rows, columns), dilations, strict=True)]
    _window(v, (batch, height, width, outputs), (extents[0], extents[1]))


def _pool(v: _View) -> None:
    _window(v, v.shapes[0], (v.options["filterHeight"], v.options["filterWidth"]))


def _window(v: _View, shape: Shape, extents: tuple[int, int]) -> None:
    strides = v.options["strideH"], v.options["strideW"]
    v.expect(min(strides) > 0 and min(extents) > 0, "a stride or size is not above 0")
    if v.options["padding"] == "SAME":
        sizes = [-(-size // stride) for size, stride in zip(shape[1:3], strides, strict=True)]
    else:
        sizes = [(n - extent) // s + 1 for n, extent, s in zip(shape[1:3], extents, strides, strict=True)]
    v.expect(v.out == (shape[0], *sizes, shape[3]), "the window does not give this result")


def _transpose_convolution(v: _View) -> None:
    target, kernel, (batch, height, width, channels), bias = v.constant(0), *v.shapes[1:]
    v.expect(tuple(target) == v.out, "the shape given is another")
    v.expect(kernel[3] == channels and bias == (kernel[0],) and v.out[3] == kernel[0], "the filter does not fit")
    v.expect(v.out[0] == batch, "the batch changes")
    for size, out, stride, extent in zip(
        (height, width), v.out[1:3], (v.options["strideH"], v.options["strideW"]), kernel[1:3], strict=True
    ):
        there = -(-out // stride) if v.options["padding"] == "SAME" else (out - extent) // stride + 1
        v.expect(stride > 0 and there == size, "the window does not lead back to the input")


def _fully_connected(v: _View) -> None:
    given, weights, bias = v.shapes
    v.expect(given[-1] == weights[1] and bias == (weights[0],), "the weights do not fit")
    v.expect(v.out == (*given[:-1], weights[0]), "the result has another shape")
    v.expect(bool(v.options.get("keepNumDims")) or len(given) == 2, "the dimensions are not kept")


def _batch_matmul(v: _View) -> None:
    a, b = v.shapes
    rows, inner = a[-2:][::-1] if v.options["adjX"] else a[-2:]
    inner_b, columns = b[-2:][::-1] if v.options["adjY"] else b[-2:]
    v.expect(inner == inner_b and v.out[-2:] == (rows, columns), "the matrices do not fit")
    v.expect(tuple(np.broadcast_shapes(a[:-2], b[:-2])) == v.out[:-2], "the batches do not fit")


def _reshape(v: _View) -> None:
    v.expect(int(np.prod(v.shapes[0])) == int(np.prod(v.out)), "the sizes differ")
    v.expect(tuple(v.constant(1).reshape(-1)) == v.out, "the shape given is another")


def _squeeze(v: _View) -> None:
    v.expect(v.out == () and set(v.shapes[0]) == {1}, "it is not a single element")


def _transpose(v: _View) -> None:
    permutation = [int(axis) for axis in v.constant(1)]
    v.expect(sorted(permutation) == list(range(len(v.shapes[0]))), "it is no permutation")
    v.expect(tuple(v.shapes[0][axis] for axis in permutation) == v.out, "the result has another shape")


def _concatenation(v: _View) -> None:
    axis = v.options["axis"]
    v.expect(0 <= axis < len(v.out), "there is no such axis")
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in [*v.shapes, v.out]}
    v.expect(len(rests) == 1 and sum(shape[axis] for shape in v.shapes) == v.out[axis], "the parts do not fit")


def _split(v: _View) -> None:
    equal = v.op.kind == "SPLIT"
    whole = v.shapes[1 if equal else 0]
    axis = int(v.constant(0 if equal else 2))
    v.expect(0 <= axis < len(whole) and v.options["numSplits"] == len(v.results), "the axis or count is wrong")
    v.expect(sum(shape[axis] for shape in v.results) == whole[axis], "the parts do not add up")
    v.expect(not equal or len({shape[axis] for shape in v.results}) == 1, "the parts are not equal")


def _slice(v: _View) -> None:
    begin, size = v.constant(1), v.constant(2)
    ends = begin + size
    v.expect(tuple(size) == v.out and bool((begin >= 0).all()), "the result has another shape")
    v.expect(bool((ends <= np.array(v.shapes[0])).all()), "it reads past the end")


def _strided_slice(v: _View) -> None:
    begin, end, step = (v.constant(index) for index in (1, 2, 3))
    v.expect(bool((step > 0).all() and (begin >= 0).all()), "a step or start is out of range")
    v.expect(bool((end <= np.array(v.shapes[0])).all()), "it reads past the end")
    v.expect(tuple(-((begin - end) // step)) == v.out, "the result has another shape")


def _gather(v: _View) -> None:
    axis, limit = v.options["axis"], v.shapes[0][v.options["axis"]]
    indices = v.tensors[1].data
    v.expect(indices is None or bool((indices >= 0).all() and (indices < limit).all()), "an index is out of range")
    v.expect((*v.shapes[0][:axis], *v.shapes[1], *v.shapes[0][axis + 1 :]) == v.out, "the result has another shape")


def _gather_nd(v: _View) -> None:
    indices = v.constant(1)
    depth = indices.shape[-1]
    v.expect(bool((indices >= 0).all() and (indices < np.array(v.shapes[0][:depth])).all()), "an index is out of range")
    v.expect((*indices.shape[:-1], *v.shapes[0][depth:]) == v.out, "the result has another shape")


def _pad(v: _View) -> None:
    amounts = v.constant(1)
    v.expect(amounts.shape == (len(v.shapes[0]), 2) and bool((amounts >= 0).all()), "the padding is out of range")
    v.expect(tuple(np.array(v.shapes[0]) + amounts.sum(axis=1)) == v.out, "the result has another shape")
    if v.op.kind == "MIRROR_PAD":
        v.expect(bool((amounts.max(axis=1) < np.array(v.shapes[0])).all()), "it reflects more than there is")


def _tile(v: _View) -> None:
    v.expect(tuple(np.array(v.shapes[0]) * v.constant(1)) == v.out, "the result has another shape")


def _broadcast_to(v: _View) -> None:
    v.expect(tuple(v.constant(1)) == v.out, "the shape given is another")
    v.expect(tuple(np.broadcast_shapes(v.shapes[0], v.out)) == v.out, "the result has another shape")


def _resize(v: _View) -> None:
    batch, _, _, channels = v.shapes[0]
    v.expect((batch, *v.constant(1), channels) == v.out, "the result has another shape")
    v.expect(not (v.options["halfPixelCenters"] and v.options["alignCorners"]), "both sampling modes are set")


def _reduce(v: _View) -> None:
    axes = {int(axis) for axis in v.constant(1).reshape(-1)}
    rank = len(v.shapes[0])
    v.expect(all(0 <= axis < rank for axis in axes), "there is no such axis")
    keep = v.options["keepDims"]
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(v.shapes[0]) if keep or axis not in axes)
    v.expect(shape == v.out, "the result has another shape")


def _arg(v: _View) -> None:
    axis = int(v.constant(1))
    v.expect(0 <= axis < len(v.shapes[0]), "there is no such axis")
    v.expect((*v.shapes[0][:axis], *v.shapes[0][axis + 1 :]) == v.out, "the result has another shape")


def _cumsum(v: _View) -> None:
    v.expect(0 <= int(v.constant(1)) < len(v.shapes[0]) and v.shapes[0] == v.out, "there is no such axis")


def _blocks(v: _View) -> None:
    block = v.options["blockSize"]
    small, large = (v.shapes[0], v.out) if v.op.kind == "DEPTH_TO_SPACE" else (v.out, v.shapes[0])
    v.expect(block > 0, "the block is empty")
    batch, height, width, channels = small
    v.expect(large == (batch, height * block, width * block, channels // block**2), "the blocks do not fit")
    v.expect(channels % block**2 == 0, "the channels do not divide into blocks")


def _same(v: _View) -> None:
    v.expect(v.shapes[0] == v.out, "the shape changes")


_CHECKS: dict[str, Callable[[_View], None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "TRANSPOSE_CONV": _transpose_convolution,
    "MAX_POOL_2D": _pool,
    "AVERAGE_POOL_2D": _pool,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "TRANSPOSE": _transpose,
    "CONCATENATION": _concatenation,
    "SPLIT": _split,
    "SPLIT_V": _split,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "PAD": _pad,
    "PADV2": _pad,
    "MIRROR_PAD": _pad,
    "TILE": _tile,
    "BROADCAST_TO": _broadcast_to,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "MEAN": _reduce,
    "SUM": _reduce,
    "REDUCE_MAX": _reduce,
    "REDUCE_MIN": _reduce,
    "REDUCE_PROD": _reduce,
    "ARG_MAX": _arg,
    "ARG_MIN": _arg,
    "CUMSUM": _cumsum,
    "DEPTH_TO_SPACE": _blocks,
    "SPACE_TO_DEPTH": _blocks,
    "CAST": _same,
    "QUANTIZE": _same,
    "DEQUANTIZE": _same,
}
