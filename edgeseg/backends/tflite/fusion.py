"""Clean-up of a finished subgraph: activations join the operator before them, reshapes of reshapes become one."""

from __future__ import annotations

from edgeseg.backends.tflite.builder import Builder, Operator, live_operators

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


def fuse(builder: Builder) -> None:
    """Shorten `builder.operators` in place; every output keeps its values."""
    builder.operators = live_operators(builder, builder.outputs.values())
    readers: dict[int, int] = {}
    for op in builder.operators:
        for index in op.inputs:
            readers[index] = readers.get(index, 0) + 1
    for index in builder.outputs.values():
        readers[index] = readers.get(index, 0) + 1
    makers: dict[int, Operator] = {}
    kept: list[Operator] = []
    for op in builder.operators:
        host = makers.get(op.inputs[0]) if op.kind in _ACTIVATIONS else None
        if host is not None and _can_host(host, builder) and readers[op.inputs[0]] == 1:
            host.options["fusedActivationFunction"] = op.kind
            host.outputs = op.outputs
            host.node = host.node or op.node
            makers[op.outputs[0]] = host
            continue
        before = makers.get(op.inputs[0]) if op.kind == "RESHAPE" else None
        if before is not None and before.kind == "RESHAPE":
            op.inputs[0] = before.inputs[0]
        kept.append(op)
        for index in op.outputs:
            makers[index] = op
    builder.operators = kept
    builder.operators = live_operators(builder, builder.outputs.values())


def _can_host(host: Operator, builder: Builder) -> bool:
    floats = builder.tensors[host.outputs[0]].dtype.name == "float32"
    return host.kind in _HOSTS and floats and "fusedActivationFunction" not in host.options
