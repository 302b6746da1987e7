"""What a lowering works with: values with lazy layouts, and the means to write operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeseg.backends.tflite import layout
from edgeseg.backends.tflite.builder import Builder, Operator, Quantization
from edgeseg.backends.tflite.layout import Order, Shape
from edgeseg.backends.tflite.prepare import Node
from edgeseg.core.arrays import Array

MAX_TRANSPOSE_RANK = 5
"""TRANSPOSE of more dimensions needs an operator version that old runtimes do not have."""


class Refused(Exception):
    """A node cannot be lowered; the text says why, seen from the node."""


@dataclass(frozen=True)
class Value:
    """What an ONNX name stands for: a constant (`data`), or a tensor that holds it in `order`.

    Attributes:
        shape: Logical shape.
        dtype: Type that the tensor has in TFLite.
        order: Physical dimension `p` holds logical dimension `order[p]`.
        nonnegative: No element is below 0 (so zero is as good a border as minus infinity).
    """

    shape: Shape
    dtype: np.dtype[Any]
    order: Order
    tensor: int | None = None
    data: Array | None = None
    nonnegative: bool = False


CARRIERS = (
    "RESHAPE",
    "SQUEEZE",
    "TRANSPOSE",
    "CONCATENATION",
    "SPLIT",
    "SPLIT_V",
    "SLICE",
    "STRIDED_SLICE",
    "GATHER",
    "DEPTH_TO_SPACE",
    "PAD",
    "PADV2",
    "MAX_POOL_2D",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
)
"""Operators whose result has the quantisation of what they read: they move elements, or mix them within their range."""

Lowering = Callable[["Context", Node], None]

LOWERINGS: dict[str, Lowering] = {}
"""ONNX operator to what writes it; filled by the modules of `ops`."""


def lowers(*ops: str) -> Callable[[Lowering], Lowering]:
    """Register a function as the lowering of ONNX operators."""

    def register(function: Lowering) -> Lowering:
        for op in ops:
            assert op not in LOWERINGS, f"{op} has two lowerings"
            LOWERINGS[op] = function
        return function

    return register


def internal(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which a value of an ONNX type is computed.

    64-bit integers become 32-bit ones, which is what TFLite's kernels cover; float64 has no kernels at all.
    """
    if dtype == np.int64:
        return np.dtype(np.int32)
    if dtype.name in ("float32", "int32", "uint8", "int8", "int16", "bool"):
        return dtype
    raise Refused(f"a value is {dtype.name}, for which TFLite has no kernels")


def narrowed(data: Array) -> Array:
    """A constant in its internal type.

    An int64 constant at an end of its range means "no limit" wherever exporters write one, and is cut to int32; any
    other that does not fit is refused.
    """
    if data.dtype == np.float64:
        return data.astype(np.float32)
    target = internal(data.dtype)
    if target != data.dtype:
        ends = np.iinfo(np.int32)
        beyond = data[(data < ends.min) | (data > ends.max)]
        if beyond.size and int(np.abs(beyond.astype(np.float64)).min()) < 2**62:
            raise Refused(f"the constant {int(beyond.flat[0])} does not fit in 32 bits")
        return np.clip(data, ends.min, ends.max).astype(target)
    return data


class Context:
    """The state of one conversion: the values so far and the node at work."""

    def __init__(self, opset: int) -> None:
        self.builder = Builder()
        self.opset = opset
        self.values: dict[str, Value] = {}
        self.node = Node("", "", (), ())
        self._moved: dict[tuple[int, Order], int] = {}

    # Reading the node's inputs

    def has(self, index: int) -> bool:
        """Whether the node has this optional input."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def input(self, index: int) -> Value:
        """The value of an input."""
        return self.values[self.node.inputs[index]]

    def inputs(self) -> list[Value]:
        """The values of all inputs that are there."""
        return [self.values[name] for name in self.node.inputs if name]

    def constant(self, index: int, what: str) -> Array:
        """The content of an input that has to be known when the file is written."""
        data = self.input(index).data
        if data is None:
            raise Refused(f"its {what} (input {index}) is computed at run time; TFLite needs it as a constant")
        return data

    def optional(self, index: int, what: str) -> Array | None:
        """`constant`, or None where the input is left out."""
        return self.constant(index, what) if self.has(index) else None

    def integers(self, attribute: str, index: int, what: str) -> list[int] | None:
        """A list of integers that older opsets give as an attribute and newer ones as an input."""
        given = self.node.get(attribute, None)
        if given is None:
            data = self.optional(index, what)
            return None if data is None else [int(item) for item in np.asarray(data).reshape(-1)]
        return [int(item) for item in given] if isinstance(given, list) else [int(given)]

    # Writing operators

    def emit(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        dtype: Any = None,
        *,
        quantization: Quantization | None = None,
        **options: Any,
    ) -> int:
        """Write an operator with one output, and return that tensor.

        Args:
            kind: TFLite operator.
            inputs: Tensors.
            shape: Physical shape of the output.
            dtype: Type of the output; that of the first input if left out.
            quantization: Of the output.
            options: Fields of the operator's options table.
        """
        return self.emit_many(kind, inputs, [shape], dtype, quantization=quantization, **options)[0]

    def emit_many(
        self,
        kind: str,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        dtype: Any = None,
        *,
        quantization: Quantization | None = None,
        **options: Any,
    ) -> list[int]:
        """`emit` for an operator with several outputs."""
        if dtype is None:
            dtype = self.builder.tensors[inputs[0]].dtype
        if quantization is None and kind in CARRIERS:
            quantization = self._carried(inputs, np.dtype(dtype))
        name = f"{next(filter(None, self.node.outputs), 'value')}/{kind.lower()}"
        outputs = [self.builder.tensor(name, shape, dtype, quantization) for shape in shapes]
        self.builder.operators.append(Operator(kind, list(inputs), outputs, dict(options), self.node.label))
        return outputs

    def _carried(self, inputs: Sequence[int], dtype: np.dtype[Any]) -> Quantization | None:
        """The one quantisation of the inputs of this type."""
        read = [self.builder.tensors[index] for index in inputs]
        found = {tensor.quantization for tensor in read if tensor.dtype == dtype and tensor.dtype != np.int32}
        if len(found) > 1:
            raise Refused("what it reads is quantised with several scales")
        return found.pop() if found else None

    def quantization_of(self, value: Value) -> Quantization | None:
        """How a value is quantised; None for plain numbers."""
        return None if value.tensor is None else self.builder.tensors[value.tensor].quantization

    def shape_of(self, tensor: int) -> Shape:
        """Physical shape of a tensor."""
        return self.builder.tensors[tensor].shape

    def dtype_of(self, tensor: int) -> np.dtype[Any]:
        """Type of a tensor."""
        return self.builder.tensors[tensor].dtype

    def ints(self, values: Sequence[int] | Array) -> int:
        """An int32 constant: a shape, a permutation, an axis list."""
        return self.builder.constant(np.asarray(values, np.int32))

    def floats(self, values: Any, name: str = "constant") -> int:
        """A float32 constant."""
        return self.builder.constant(np.asarray(values, np.float32), name)

    # Layout

    def tensor(self, value: Value, order: Order | None = None) -> int:
        """The tensor that holds a value in this order (the value's own if left out), moving data only if it must."""
        order = value.order if order is None else order
        if value.data is not None:
            return self.builder.constant(narrowed(value.data).transpose(order))
        assert value.tensor is not None
        return self.permute(value.tensor, [value.order.index(axis) for axis in order])

    def plain(self, value: Value) -> int:
        """The tensor that holds a value as ONNX lays it out."""
        return self.tensor(value, layout.identity(len(value.shape)))

    def permute(self, tensor: int, permutation: Sequence[int]) -> int:
        """Reorder the dimensions of a tensor, by a RESHAPE where only dimensions of size 1 move."""
        key = (tensor, tuple(permutation))
        if key[1] == layout.identity(len(key[1])):
            return tensor
        if key not in self._moved:
            shape = self.shape_of(tensor)
            target = layout.physical(shape, key[1])
            view, simple = layout.simplest_permutation(shape, permutation)
            if simple == layout.identity(len(simple)):
                moved = self.reshape(tensor, target)
            else:
                if len(simple) > MAX_TRANSPOSE_RANK:
                    raise Refused(
                        f"it needs a transpose of {len(simple)} dimensions; TFLite's has {MAX_TRANSPOSE_RANK}"
                    )
                if len(shape) <= 4:  # without the detour over the simplest view there are fewer operators
                    moved = self.emit("TRANSPOSE", [tensor, self.ints(permutation)], target)
                else:
                    moved = self.reshape(tensor, view)
                    moved = self.emit("TRANSPOSE", [moved, self.ints(simple)], layout.physical(view, simple))
                    moved = self.reshape(moved, target)
            self._moved[key] = moved
        return self._moved[key]

    def reshape(self, tensor: int, shape: Sequence[int]) -> int:
        """See the same data in another physical shape."""
        target = tuple(int(size) for size in shape)
        if self.shape_of(tensor) == target:
            return tensor
        if not target:  # a RESHAPE to rank 0 would need a shape of no elements, which is no buffer
            rank = len(self.shape_of(tensor))
            return self.emit("SQUEEZE", [tensor], target, squeezeDims=np.arange(rank, dtype=np.int32))
        return self.emit("RESHAPE", [tensor, self.ints(target)], target, newShape=np.array(target, np.int32))

    def aligned(self, value: Value, rank: int) -> Value:
        """A value with leading dimensions of size 1 up to a rank, as broadcasting sees it."""
        missing = rank - len(value.shape)
        if missing <= 0:
            return value
        shape = (1,) * missing + value.shape
        if value.data is not None:
            return replace(value, shape=shape, order=layout.identity(rank), data=value.data.reshape(shape))
        order = layout.inserted(value.order, range(missing))
        assert value.tensor is not None
        return replace(
            value, shape=shape, order=order, tensor=self.reshape(value.tensor, layout.physical(shape, order))
        )

    def cast(self, tensor: int, dtype: Any) -> int:
        """Change the type of a tensor's elements."""
        source, target = self.dtype_of(tensor), np.dtype(dtype)
        if source == target:
            return tensor
        from edgeseg.backends.tflite.schema import TENSOR_TYPES

        return self.emit(
            "CAST",
            [tensor],
            self.shape_of(tensor),
            target,
            inDataType=TENSOR_TYPES[source.name],
            outDataType=TENSOR_TYPES[target.name],
        )

    # Binding results

    def bind(
        self, tensor: int, order: Order, *, output: int = 0, nonnegative: bool = False, shape: Shape | None = None
    ) -> None:
        """Say that a tensor, in this order, is an output of the node."""
        name = self.node.outputs[output]
        held = self.shape_of(tensor)
        if shape is None:
            logical = [0] * len(order)
            for place, axis in enumerate(order):
                logical[axis] = held[place]
            shape = tuple(logical)
        assert held == layout.physical(shape, order), f"{self.node.label}: {held} is not {shape} in {order}"
        if self.builder.tensors[tensor].name.startswith(f"{name}/"):
            self.builder.tensors[tensor].name = name
        self.values[name] = Value(shape, self.dtype_of(tensor), order, tensor, nonnegative=nonnegative)

    def bind_value(self, value: Value, *, output: int = 0) -> None:
        """Say that an output of the node is a value that is already there."""
        self.values[self.node.outputs[output]] = value

    def bind_data(self, data: Any, *, output: int = 0) -> None:
        """Say that an output of the node is a constant."""
        self.values[self.node.outputs[output]] = constant_value(np.asarray(data))


def constant_value(data: Array) -> Value:
    """A constant as a value."""
    return Value(data.shape, data.dtype, layout.identity(data.ndim), data=data)


def elements(shape: Sequence[int]) -> int:
    """Number of elements of a shape."""
    return math.prod(int(size) for size in shape)
