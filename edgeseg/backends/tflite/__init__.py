"""The backend `tflite`: ONNX is written as TFLite directly, without TensorFlow, and run by LiteRT.

The parts, in the order of a conversion: `prepare` reads the ONNX graph, `patterns` puts spelled-out operators back
together, `lowering` walks over the nodes and calls the lowerings of `ops`, which speak to a `context` that knows the
lazy `layout` of every value; `builder` holds the result, `fusion` shortens it, `contracts` checks it and `schema` says
what its bytes are; `metadata` describes it for phones; `parity` runs the file against ONNX Runtime. `runtime` alone is
needed where the file is deployed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from edgeseg.backends.tflite import runtime
from edgeseg.core.backend import Conversion, Executed, Work
from edgeseg.core.spec import ModelSpec


class TfliteBackend:
    """TFLite files: written by edgeseg, run by LiteRT (or tflite-runtime) with XNNPACK."""

    name = "tflite"
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    package = "ai_edge_litert"
    extra = "tflite"

    def convert(
        self,
        model: Any,
        spec: ModelSpec,
        precision: str,
        out: Path,
        *,
        io_layout: Literal["nhwc", "nchw"] = "nhwc",
        converter: Literal["edgeseg", "onnx2tf"] = "edgeseg",
        io: Literal["float", "int8"] = "float",
    ) -> Conversion:
        """Write `model.tflite`; see `edgeseg.core.backend.Backend.convert`.

        Args:
            model: `onnx.ModelProto` with static shapes.
            spec: The spec of `model`.
            precision: ``fp32``; ``fp16``: weights in half precision behind DEQUANTIZE; ``int8``: the Q/DQ pairs of
                `model` as integer kernels.
            out: An existing, empty folder.
            io_layout: Layout of the file's image input and output; NHWC is what phones expect.
            io: For ``int8``: input and output in float, or in int8 with the scales that the spec then names.
            converter: ``onnx2tf`` is the way out for graphs that this writer refuses; fp32 only.

        Raises:
            GraphError: Nodes cannot be written, or the written file computes something else; nothing is left behind.
            MissingDependency: LiteRT or onnx2tf is not installed.
        """
        from edgeseg.backends.tflite import convert

        return convert.convert(model, spec, precision, out, io_layout=io_layout, converter=converter, io=io)

    def load(self, path: Path, spec: ModelSpec, *, threads: int, options: Mapping[str, str]) -> runtime.TfliteSession:
        """Open a file; see `edgeseg.core.backend.Backend.load`."""
        return runtime.load(path, spec, threads=threads, options=options)

    def executed(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> Executed:
        """Ask the interpreter for its operators and the types of their tensors."""
        return runtime.executed_macs(path)

    def work(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> list[Work]:
        """The operators of the file."""
        return runtime.work(path)


BACKEND = TfliteBackend()
