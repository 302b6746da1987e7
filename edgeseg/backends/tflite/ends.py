"""Input and output of an integer file in int8 as well, for devices whose camera and display code knows no floats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeseg.backends.tflite.builder import Builder, Operator, Quantization
from edgeseg.core.errors import GraphError
from edgeseg.core.spec import ModelSpec, Stored

_PASSES = ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE", "RESHAPE")
"""What leaves every value within the range that it came with."""


def ends_in_integers(builder: Builder, spec: ModelSpec) -> ModelSpec:
    """Take the QUANTIZE from the input, and put one in front of the output.

    The scores keep the scale that they have inside; a resize behind them stays in float, and is rounded once, at its end.

    Args:
        builder: A lowered integer graph with float input and output; changed in place.
        spec: Its spec.

    Returns:
        The spec with `input_stored` and `output_stored`.

    Raises:
        GraphError: Input or output is not next to integers.
    """
    shown = builder.inputs[spec.input_name]
    readers = [op for op in builder.operators if shown in op.inputs]
    if len(readers) != 1 or readers[0].kind != "QUANTIZE":
        raise GraphError(
            "the input cannot be int8: it is read in float as well",
            "leave --io out, or --max-float 0 keeps the first layers in int8",
        )
    [inside] = readers[0].outputs
    builder.operators.remove(readers[0])
    builder.inputs[spec.input_name] = inside
    builder.tensors[inside].name, builder.tensors[shown].name = spec.input_name, f"{spec.input_name}/float"
    scores = builder.outputs[spec.output_name]
    found = _scale_of(builder, scores)
    if found is None:
        raise GraphError(
            "the output cannot be int8: what makes it has no scale", "leave --io out, and --head logits for the scores"
        )
    held = builder.tensors[scores]
    stored = builder.tensor(spec.output_name, held.shape, np.int8, found)
    held.name = f"{spec.output_name}/float"
    builder.operators.append(Operator("QUANTIZE", [scores], [stored], {}, "Output"))
    builder.outputs[spec.output_name] = stored
    first = builder.tensors[inside].quantization
    assert first is not None
    return replace(spec, input_stored=_stored(first), output_stored=_stored(found))


def _stored(quantization: Quantization) -> Stored:
    return Stored(quantization.scale[0], quantization.zero_point[0])


def _scale_of(builder: Builder, tensor: int) -> Quantization | None:
    """The scale of the integers that a float tensor was made of."""
    while True:
        op = next((op for op in builder.operators if tensor in op.outputs), None)
        if op is None:
            return None
        if op.kind == "DEQUANTIZE":
            return builder.tensors[op.inputs[0]].quantization
        if op.kind not in _PASSES:
            return None
        tensor = op.inputs[0]
