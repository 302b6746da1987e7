"""From an ONNX model to `model.tflite`: lowered, described, checked against ONNX Runtime, and only then written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from edgeseg.backends.tflite import layout, metadata, parity
from edgeseg.backends.tflite.ends import ends_in_integers
from edgeseg.backends.tflite.layout import Order
from edgeseg.backends.tflite.lowering import Lowered, lower
from edgeseg.core import atomic
from edgeseg.core.backend import Conversion, expect_quantised
from edgeseg.core.errors import EdgesegError, GraphError
from edgeseg.core.spec import ModelSpec, State

FILE = "model.tflite"
IoLayout = Literal["nhwc", "nchw"]
Io = Literal["float", "int8"]
Converter = Literal["edgeseg", "onnx2tf"]

_TO_NHWC: Order = layout.NHWC
_TO_NCHW: Order = (0, 3, 1, 2)


def convert(
    model: Any,
    spec: ModelSpec,
    precision: str,
    out: Path,
    *,
    io_layout: IoLayout = "nhwc",
    converter: Converter = "edgeseg",
    io: Io = "float",
) -> Conversion:
    """Write `model.tflite` into `out`; see `TfliteBackend.convert`."""
    if precision not in ("fp32", "fp16", "int8"):
        raise EdgesegError(f"the TFLite writer writes fp32, fp16 and int8, not {precision}", "--precision fp32")
    if io == "int8" and precision != "int8":
        raise EdgesegError(f"{precision} has input and output in float", "edgeseg quantize --io int8")
    if precision == "int8" and converter != "edgeseg":
        raise EdgesegError("onnx2tf's INT8 files are not shipped: most do not run", "leave --converter out")
    if precision == "int8":
        expect_quantised(model)
    _check_names(model, spec)
    if converter == "onnx2tf":
        from edgeseg.backends.tflite import fallback

        return fallback.convert(model, spec, precision, out)
    lowered = lower(model, io_orders(model, spec, io_layout))
    written_spec = laid_out(spec, lowered, io_layout)
    half = precision == "fp16"
    blobs, labels, notes = metadata.describe(written_spec)
    content = lowered.builder.serialize(half=half, metadata=blobs, description=f"{spec.name} ({precision}), by edgeseg")
    content = metadata.packed(content, labels)
    parity.check(lowered, content, spec, half=half, integer=precision == "int8")
    if io == "int8":  # what was checked, with its ends in integers
        written_spec = ends_in_integers(lowered.builder, written_spec)
        content = lowered.builder.serialize(
            metadata=blobs, description=f"{spec.name} (int8, input and output too), by edgeseg"
        )
        content = metadata.packed(content, labels)
    atomic.write_bytes(out / FILE, content)
    return Conversion(files=(FILE,), spec=written_spec, notes=notes)


def _check_names(model: Any, spec: ModelSpec) -> None:
    """The spec's inputs and outputs have to be the model's."""
    for kind, values, wanted in (
        ("input", model.graph.input, [spec.input_name, *(state.input_name for state in spec.states)]),
        ("output", model.graph.output, [spec.output_name, *(state.output_name for state in spec.states)]),
    ):
        names = [value.name for value in values]
        for name in wanted:
            if name not in names:
                raise GraphError(
                    f"the model has no {kind} {name!r}; it has {', '.join(names)}",
                    f"give the {kind}'s name in the spec",
                )


def io_orders(model: Any, spec: ModelSpec, io_layout: IoLayout) -> dict[str, Order]:
    """How every 4-D input and output is to lie in the file; all of them follow the image's layout."""
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in [*model.graph.input, *model.graph.output]}
    orders: dict[str, Order] = {}
    for name, rank in ranks.items():
        now = spec.input_layout
        if name == spec.output_name:
            if spec.output_layout == "nhw":
                continue
            now = spec.output_layout
        if rank == 4 and now != io_layout:
            orders[name] = _TO_NHWC if io_layout == "nhwc" else _TO_NCHW
    return orders


def laid_out(spec: ModelSpec, lowered: Lowered, io_layout: IoLayout) -> ModelSpec:
    """The spec of the written file."""
    states = tuple(
        State(
            state.input_name,
            state.output_name,
            layout.physical(state.shape, lowered.orders.get(state.input_name, layout.identity(len(state.shape)))),
        )
        for state in spec.states
    )
    return replace(spec.with_layout(io_layout), states=states)
