"""Faulty operators are stopped before they reach an interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.backends.tflite.builder import Builder, Operator
from edgeseg.backends.tflite.contracts import check
from edgeseg.core.errors import GraphError


def graph(kind, shapes, out, *, constants=(), dtype=np.float32, **options) -> Builder:
    """One operator over inputs of these shapes, then these constants."""
    builder = Builder()
    inputs = []
    for index, shape in enumerate(shapes):
        tensor = builder.tensor(f"x{index}", shape, dtype)
        builder.inputs[f"x{index}"] = tensor
        inputs.append(tensor)
    inputs += [builder.constant(np.asarray(data)) for data in constants]
    result = builder.tensor("y", out, dtype)
    builder.operators.append(Operator(kind, inputs, [result], options, "Node 'n'"))
    builder.outputs["y"] = result
    return builder


def i32(*values):
    return np.array(values, np.int32)


FILTER = np.zeros((4, 3, 3, 8), np.float32)
WINDOW = {"padding": "VALID", "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"padding": "VALID", "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}

FAULTS = [
    ("do not broadcast", graph("ADD", [(2, 3), (4,)], (2, 3))),
    ("do not fit", graph("CONV_2D", [(1, 5, 5, 3)], (1, 3, 3, 4), constants=[FILTER, np.zeros(4, np.float32)], **WINDOW)),
    ("bias do not fit", graph("CONV_2D", [(1, 5, 5, 8)], (1, 3, 3, 4), constants=[FILTER, np.zeros(3, np.float32)], **WINDOW)),
    ("does not give this", graph("CONV_2D", [(1, 5, 5, 8)], (1, 4, 3, 4), constants=[FILTER, np.zeros(4, np.float32)], **WINDOW)),
    ("not above 0", graph("MAX_POOL_2D", [(1, 4, 4, 3)], (1, 2, 2, 3), **{**POOL, "strideH": 0})),
    ("sizes differ", graph("RESHAPE", [(2, 3)], (7,), constants=[i32(7)])),
    ("no permutation", graph("TRANSPOSE", [(2, 3)], (3, 2), constants=[i32(1, 1)])),
    ("parts do not fit", graph("CONCATENATION", [(2, 3), (2, 4)], (2, 8), axis=1)),
    ("reads past the end", graph("SLICE", [(4,)], (3,), constants=[i32(2), i32(3)])),
    ("index is out of range", graph("GATHER", [(4,)], (1,), constants=[i32(4)], axis=0)),
    ("reflects more", graph("MIRROR_PAD", [(2,)], (7,), constants=[np.array([[0, 5]], np.int32)], mode="REFLECT")),
    ("no such axis", graph("SUM", [(2, 3)], (2,), constants=[i32(2)], keepDims=False)),
    ("divisor may be 0", graph("DIV", [(2,), (2,)], (2,), dtype=np.int32)),
    ("divisor may be 0", graph("DIV", [(2,)], (2,), constants=[i32(1, 0)], dtype=np.int32)),
    ("has the shape", graph("RELU", [(2, 0)], (2, 0))),
    ("is complex64", graph("RELU", [(2,)], (2,), dtype=np.complex64)),
    ("do not divide into blocks", graph("DEPTH_TO_SPACE", [(1, 2, 2, 5)], (1, 4, 4, 1), blockSize=2)),
]  # fmt: skip


@pytest.mark.parametrize(("message", "builder"), FAULTS, ids=[f"{text}-{b.operators[0].kind}" for text, b in FAULTS])
def test_a_faulty_operator_is_named(message, builder):
    with pytest.raises(GraphError, match=f"of Node 'n'.*{message}"):
        check(builder)


def test_a_sound_one_passes():
    check(graph("ADD", [(2, 3), (3,)], (2, 3)))


def test_a_tensor_that_nothing_writes():
    builder = graph("RELU", [(2,)], (2,))
    builder.operators[0].inputs = [builder.tensor("nowhere", (2,), np.float32)]
    with pytest.raises(GraphError, match="nothing has written"):
        check(builder)


def test_a_buffer_of_another_size():
    builder = graph("ADD", [(4,)], (4,), constants=[np.zeros(4, np.float32)])
    builder.tensors[builder.operators[0].inputs[1]].data = np.zeros(3, np.float32)
    with pytest.raises(GraphError, match=r"the buffer of 'constant' is float32 \(3,\)"):
        check(builder)
