"""A TFLite subgraph under construction: tensors, operators, and the bytes they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeseg.backends.tflite import schema
from edgeseg.backends.tflite.layout import Shape
from edgeseg.core.arrays import Array

NO_TENSOR = -1
"""Stands for an optional input that is left out."""

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL")
_HALF_MAX = 65504.0


@dataclass(frozen=True)
class Quantization:
    """Affine quantisation of a tensor: ``real = scale * (stored - zero_point)``, per tensor or along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0


@dataclass
class Tensor:
    """One tensor; `data` is set for a constant and has exactly `shape` and `dtype`."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    data: Array | None = None
    quantization: Quantization | None = None


@dataclass
class Operator:
    """One operator. `options` are fields of its options table; enumerations are given as the names of their values."""

    kind: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any] = field(default_factory=dict)
    node: str = ""
    """The ONNX node it comes from, for messages."""


@dataclass(frozen=True)
class Metadata:
    """A named blob in the file (`TFLITE_METADATA`, …)."""

    name: str
    content: bytes


class Builder:
    """Collects tensors and operators in execution order; tensors are spoken of by their index."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self._constants: dict[tuple[Shape, str, bytes], int] = {}

    def tensor(self, name: str, shape: Iterable[int], dtype: Any, quantization: Quantization | None = None) -> int:
        """Add a tensor that an operator or the caller fills."""
        self.tensors.append(
            Tensor(name, tuple(int(size) for size in shape), np.dtype(dtype), quantization=quantization)
        )
        return len(self.tensors) - 1

    def constant(self, data: Any, name: str = "constant") -> int:
        """Add a constant, or find the one with the same content."""
        array = np.array(data, order="C")
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self._constants:
            self.tensors.append(Tensor(name, array.shape, array.dtype, array))
            self._constants[key] = len(self.tensors) - 1
        return self._constants[key]

    def serialize(
        self,
        *,
        half: bool = False,
        probes: Mapping[str, int] | None = None,
        metadata: Sequence[Metadata] = (),
        description: str = "",
    ) -> bytes:
        """The file's bytes.

        Args:
            half: Store the weights of convolutions and matrix products in float16, each behind a DEQUANTIZE.
            probes: More outputs (name to tensor), to look at values inside the graph.
            metadata: Blobs to embed.
            description: Free text in the file.
        """
        outputs = {**self.outputs, **(probes or {})}
        return _Writer(self, outputs, half).bytes(metadata, description)


class _Writer:
    """One pass from a builder to a flatbuffer; numbers the tensors that are in use."""

    def __init__(self, builder: Builder, outputs: Mapping[str, int], half: bool) -> None:
        self._schema = schema.generated()
        self._outputs = outputs
        self._inputs = builder.inputs
        self._tensors = list(builder.tensors)
        self._operators = live_operators(builder, outputs.values())
        if half:
            self._halve()
        used = set(self._inputs.values()) | set(outputs.values())
        for op in self._operators:
            used.update(index for index in (*op.inputs, *op.outputs) if index != NO_TENSOR)
        self._numbers = {index: number for number, index in enumerate(sorted(used))}

    def _halve(self) -> None:
        """Put every weight behind a DEQUANTIZE from float16; the runtimes fold it when they load the file."""
        halves: dict[int, int] = {}
        dequantize: list[Operator] = []
        operators = []
        for op in self._operators:
            inputs = list(op.inputs)
            for place, index in enumerate(inputs):
                data = self._tensors[index].data if index != NO_TENSOR else None
                if op.kind not in _WEIGHTED or data is None or data.dtype != np.float32:
                    continue
                if data.size and float(np.abs(data).max()) > _HALF_MAX:
                    continue
                if index not in halves:
                    old = self._tensors[index]
                    small = Tensor(f"{old.name}/float16", old.shape, np.dtype(np.float16), data.astype(np.float16))
                    self._tensors += [small, Tensor(old.name, old.shape, old.dtype)]
                    halves[index] = len(self._tensors) - 1
                    dequantize.append(Operator("DEQUANTIZE", [halves[index] - 1], [halves[index]], node=op.node))
                inputs[place] = halves[index]
            operators.append(Operator(op.kind, inputs, op.outputs, op.options, op.node))
        self._operators = dequantize + operators

    def bytes(self, metadata: Sequence[Metadata], description: str) -> bytes:
        import flatbuffers

        s = self._schema
        model = s.ModelT()
        model.version = 3
        model.description = description
        model.buffers = [s.BufferT()]
        graph = s.SubGraphT()
        graph.name = "main"
        graph.tensors = [self._tensor(model, self._tensors[index], name) for index, name in self._names().items()]
        model.operatorCodes = []
        codes: dict[tuple[str, int], int] = {}
        graph.operators = [self._operator(model, codes, op) for op in self._operators]
        graph.inputs = self._indices(self._inputs.values())
        graph.outputs = self._indices(self._outputs.values())
        model.subgraphs = [graph]
        model.signatureDefs = [self._signature()]
        model.metadata = []
        for blob in metadata:
            entry = s.MetadataT()
            entry.name = blob.name
            entry.buffer = self._buffer(model, np.frombuffer(blob.content, np.uint8))
            model.metadata.append(entry)
        packer = flatbuffers.Builder(1 << 20)
        packer.Finish(model.Pack(packer), file_identifier=b"TFL3")
        return bytes(packer.Output())

    def _names(self) -> dict[int, str]:
        """A name of its own for every tensor in use; an input or output of the graph has the first right to its name."""
        names: dict[int, str] = {}
        taken: set[str] = set()
        for name, index in (*self._inputs.items(), *self._outputs.items()):
            names[index] = name
            taken.add(name)
        for index in self._numbers:
            base = name = self._tensors[index].name
            count = 0
            while index not in names:
                if name not in taken:
                    names[index] = name
                    taken.add(name)
                count += 1
                name = f"{base}_{count}"
        return {index: names[index] for index in self._numbers}

    def _indices(self, indices: Iterable[int]) -> Array:
        return np.array([NO_TENSOR if index == NO_TENSOR else self._numbers[index] for index in indices], np.int32)

    @staticmethod
    def _buffer_of(data: Array) -> Array:
        return np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)

    def _buffer(self, model: Any, content: Array) -> int:
        buffer = self._schema.BufferT()
        buffer.data = content
        model.buffers.append(buffer)
        return len(model.buffers) - 1

    def _tensor(self, model: Any, tensor: Tensor, name: str) -> Any:
        t = self._schema.TensorT()
        t.name = name
        t.shape = np.array(tensor.shape, np.int32)
        t.type = schema.tensor_type(tensor.dtype)
        t.hasRank = True
        t.buffer = 0 if tensor.data is None else self._buffer(model, self._buffer_of(tensor.data))
        if tensor.quantization is not None:
            q = self._schema.QuantizationParametersT()
            q.scale = np.array(tensor.quantization.scale, np.float32)
            q.zeroPoint = np.array(tensor.quantization.zero_point, np.int64)
            q.quantizedDimension = tensor.quantization.axis
            t.quantization = q
        return t

    def _operator(self, model: Any, codes: dict[tuple[str, int], int], op: Operator) -> Any:
        s = self._schema
        key = (op.kind, schema.version(op, self._tensors))
        if key not in codes:
            code = s.OperatorCodeT()
            code.builtinCode = getattr(s.BuiltinOperator, op.kind)
            code.deprecatedBuiltinCode = min(code.builtinCode, s.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
            code.version = key[1]
            codes[key] = len(model.operatorCodes)
            model.operatorCodes.append(code)
        operator = s.OperatorT()
        operator.opcodeIndex = codes[key]
        operator.inputs = self._indices(op.inputs)
        operator.outputs = self._indices(op.outputs)
        table = schema.OPTIONS.get(op.kind)
        if table is not None:
            options = getattr(s, table + "T")()
            for name, value in op.options.items():
                assert hasattr(options, name), f"{table} has no field {name}"
                setattr(options, name, self._option(name, value))
            operator.builtinOptionsType = getattr(s.BuiltinOptions, table)
            operator.builtinOptions = options
        return operator

    def _option(self, name: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        enumeration = {
            "fusedActivationFunction": "ActivationFunctionType",
            "padding": "Padding",
            "mode": "MirrorPadMode",
        }.get(name, "TensorType")
        return getattr(getattr(self._schema, enumeration), value)

    def _signature(self) -> Any:
        s = self._schema
        signature = s.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.subgraphIndex = 0
        signature.inputs, signature.outputs = [], []
        for tensors, entries in ((self._inputs, signature.inputs), (self._outputs, signature.outputs)):
            for name, index in tensors.items():
                entry = s.TensorMapT()
                entry.name = name
                entry.tensorIndex = self._numbers[index]
                entries.append(entry)
        return signature


def live_operators(builder: Builder, outputs: Iterable[int]) -> list[Operator]:
    """The operators that some output needs, in order."""
    needed = set(outputs)
    live = []
    for op in reversed(builder.operators):
        if needed.intersection(op.outputs):
            live.append(op)
            needed.update(op.inputs)
    return live[::-1]
