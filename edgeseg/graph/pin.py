"""Pinning a graph to one input size: batch 1, and the height and width that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeseg.core.errors import GraphError

if TYPE_CHECKING:
    import onnx

Size = tuple[int, int]
"""(width, height) in pixels, as on the command line."""


def image_input(model: onnx.ModelProto, name: str = "") -> onnx.ValueInfoProto:
    """The input that takes the image: the one with four dimensions, three of them colours if there are several.

    Args:
        model: The graph.
        name: The input's name, if it is known.

    Raises:
        GraphError: There is none, or the choice is not clear; all inputs are listed.
    """
    weights = {tensor.name for tensor in model.graph.initializer}  # IR 3 lists them among the inputs
    inputs = [value for value in model.graph.input if value.name not in weights]
    listed = ", ".join(f"{value.name} {_shown(value)}" for value in inputs) or "none"
    if name:
        inputs = [value for value in inputs if value.name == name]
        if not inputs:
            raise GraphError(f"the graph has no input {name!r}", f"its inputs: {listed}")
        return inputs[0]
    images = [value for value in inputs if len(_dims(value)) == 4]
    coloured = [value for value in images if 3 in (_dims(value)[1], _dims(value)[3])]
    chosen = images if len(images) == 1 else coloured
    if len(chosen) != 1:
        raise GraphError(
            f"which input takes the image is not clear; the inputs are: {listed}",
            "edgeseg takes networks with one picture in and one mask out",
        )
    return chosen[0]


def image_layout(value: onnx.ValueInfoProto) -> str:
    """``nchw`` or ``nhwc``: where the three colours are; a graph that does not say is NCHW, as ONNX's own operators are."""
    dims = _dims(value)
    return "nhwc" if dims[3] == 3 and dims[1] != 3 else "nchw"


def pin_input(
    model: onnx.ModelProto, input_size: Size | None, *, input_name: str = "", layout: str = ""
) -> onnx.ModelProto:
    """Fix a graph's dynamic sizes: batch 1, height and width as given, and infer all shapes anew.

    Args:
        model: The graph; it is not changed.
        input_size: (width, height), or None to keep the size that the graph has.
        input_name: The image's input, if the graph has several.
        layout: ``nchw`` or ``nhwc``, if the graph does not show it.

    Returns:
        A copy whose inputs and outputs are static. Inner shapes are inferred as far as onnx can; what a graph computes at
        run time becomes static with `edgeseg.graph.simplify`.

    Raises:
        GraphError: The size is dynamic and none was given, it is fixed at another one, another input is dynamic, or the
            graph does not work out at this size.
    """
    import onnx

    pinned = onnx.ModelProto()
    pinned.CopyFrom(model)
    image = image_input(pinned, input_name)
    dims = _dims(image)
    if len(dims) != 4:
        raise GraphError(
            f"the input {image.name} has {len(dims)} dimensions, an image batch has 4", "is it the image's?"
        )
    tall, wide = (2, 3) if (layout or image_layout(image)) == "nchw" else (1, 2)
    channels = 1 if tall == 2 else 3
    given = {0: 1, tall: input_size[1] if input_size else None, wide: input_size[0] if input_size else None}
    _check_sizes(image.name, dims, given, tall, wide)
    _set_dims(pinned, image, {**given, channels: dims[channels] or 3})
    for value in _inputs(pinned):
        if not all(_dims(value)):
            raise GraphError(
                f"the input {value.name} {_shown(value)} is dynamic, and only the image's size can be given",
                "export it with fixed sizes",
            )
    _forget_shapes(pinned)
    # Shapes may be computed at run time, and inference does not notice all that cannot be: the runtime knows.
    for value, shape in zip(pinned.graph.output, _output_shapes(pinned), strict=True):
        value.type.tensor_type.shape.CopyFrom(onnx.helper.make_tensor_type_proto(1, shape).tensor_type.shape)
    return _inferred(pinned)


def is_static(model: onnx.ModelProto) -> bool:
    """Whether every input and output has a fixed shape."""
    return all(_dims(value) and all(_dims(value)) for value in [*_inputs(model), *model.graph.output])


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # whatever the C++ part threw
        raise _does_not_work_out(error) from error


def _output_shapes(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Run the graph once on zeros, unoptimised, and look at what comes out."""
    import numpy as np
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    feeds = {
        value.name: np.zeros(_dims(value), onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in _inputs(model)
    }
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [tuple(output.shape) for output in session.run(None, feeds)]
    except Exception as error:  # the runtime's exceptions share no base class
        raise _does_not_work_out(error) from error


def _does_not_work_out(error: Exception) -> GraphError:
    first = str(error).strip().split("\n")[0]
    return GraphError(f"the graph does not work out at this size: {first[:200]}", "try the size it was trained for")


def _check_sizes(name: str, dims: list[int], given: dict[int, int | None], tall: int, wide: int) -> None:
    if dims[0] not in (0, 1):
        raise GraphError(
            f"the input {name} is fixed at a batch of {dims[0]}", "export it with batch 1 or a dynamic batch"
        )
    wanted = (given[wide], given[tall])
    if wanted == (None, None):
        if not dims[tall] or not dims[wide]:
            raise GraphError(f"the input {name} has no fixed size", "say which: --input-size WIDTHxHEIGHT")
        return
    if any(has and has != want for has, want in ((dims[wide], given[wide]), (dims[tall], given[tall]))):
        fixed = f"{dims[wide] or '?'}x{dims[tall] or '?'}"
        raise GraphError(
            f"the input {name} is fixed at {fixed} (width x height), not {wanted[0]}x{wanted[1]}",
            f"--input-size {fixed}, or export it with a dynamic size",
        )


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    """Sizes of a tensor; 0 for a dynamic one, which old exporters also write as -1. Empty for what is no tensor."""
    return [dim.dim_value if dim.dim_value > 0 else 0 for dim in value.type.tensor_type.shape.dim]


def _shown(value: onnx.ValueInfoProto) -> str:
    return "[" + ", ".join(str(size or "?") for size in _dims(value)) + "]"


def _set_dims(model: onnx.ModelProto, image: onnx.ValueInfoProto, sizes: dict[int, int | None]) -> None:
    """Fix the image's dimensions, and those of other inputs that carry the same symbol."""
    symbols: dict[str, int] = {}
    for axis, size in sizes.items():
        dim = image.type.tensor_type.shape.dim[axis]
        if size is not None:
            if dim.dim_param:
                symbols[dim.dim_param] = size
            dim.dim_value = size  # also clears the symbol: they share a oneof
    for value in _inputs(model):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]


def _forget_shapes(model: onnx.ModelProto) -> None:
    """Drop what the exporter noted of inner and output shapes: it holds for other sizes."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            for dim in value.type.tensor_type.shape.dim:  # the rank stays: validators ask for it
                dim.Clear()
