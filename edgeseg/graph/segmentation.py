"""Reading a ModelSpec off an ONNX graph that comes without one: which input is the image, which output the mask.

What the graph cannot tell (colour order, mean, std, class names) is taken from what the user says, else from the field's
commonest choice, and every such assumption is returned as a sentence to show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeseg.core import records
from edgeseg.core.errors import GraphError
from edgeseg.core.spec import SPEC_KEY, ModelSpec, State

if TYPE_CHECKING:
    import onnx

MAX_CHANNELS = 256
"""More output channels than this are features, not classes: mask codes are 8 bit."""


@dataclass(frozen=True)
class Told:
    """What the user said about a network; None = nothing."""

    color: Literal["rgb", "bgr"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    classes: tuple[str, ...] | None = None
    output: str | None = None


@dataclass(frozen=True)
class _Port:
    """An input or output of the graph with its static shape."""

    name: str
    shape: tuple[int, ...]
    element: int

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}"


def describe(model: onnx.ModelProto, name: str, told: Told) -> tuple[ModelSpec, list[str]]:
    """The spec of a segmentation network.

    Args:
        model: With static shapes, batch 1.
        name: What to call the network.
        told: What the user said; it wins over what the file says about itself.

    Returns:
        The spec, and what was assumed, as sentences.

    Raises:
        GraphError: No input is an image, or no output (or more than one) is a mask; all outputs are named.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if SPEC_KEY in properties:
        spec = records.from_json(ModelSpec, properties[SPEC_KEY], where="the spec in the ONNX file's metadata")
        image = _image_input(_inputs(model))
        width, height = _size(image)
        spec = replace(spec, width=width, height=height)
        return _with(spec, told), []
    image = _image_input(_inputs(model))
    width, height = _size(image)
    output, layout, channels = _mask_output(_outputs(model), (width, height), told.output)
    kind, why = _kind(model, image, output, channels)
    spec = ModelSpec(
        name=name,
        width=width,
        height=height,
        input_name=image.name,
        output_name=output.name,
        input_layout="nchw" if image.shape[1] == 3 else "nhwc",
        input_dtype="uint8" if image.element == _elements()["uint8"] else "float32",
        output_layout=layout,
        output_kind=kind,
        output_channels=channels,
        classes=_default_classes(channels),
        states=_states(model, image, output),
    )
    assumed = [why] if why else []
    if spec.input_dtype == "float32":
        missing = [flag for flag, value in (("color", told.color), ("mean", told.mean), ("std", told.std)) if not value]
        if missing:
            assumed.append(
                f"the file does not say how pictures are prepared; assumed {spec.color.upper()}, mean "
                f"{_numbers(spec.mean)}, std {_numbers(spec.std)} where not told (set with --{' --'.join(missing)})"
            )
    return _with(spec, told), assumed


def _with(spec: ModelSpec, told: Told) -> ModelSpec:
    return replace(
        spec,
        color=told.color or spec.color,
        mean=told.mean or spec.mean,
        std=told.std or spec.std,
        classes=told.classes or spec.classes,
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _default_classes(channels: int) -> tuple[str, ...]:
    return ("background", "person") if channels <= 2 else tuple(f"class-{index}" for index in range(channels))


def _elements() -> dict[str, int]:
    from onnx import TensorProto

    return {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}


def _ports(values: list[onnx.ValueInfoProto]) -> list[_Port]:
    return [
        _Port(
            value.name,
            tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim),
            value.type.tensor_type.elem_type,
        )
        for value in values
    ]


def _inputs(model: onnx.ModelProto) -> list[_Port]:
    constants = {initializer.name for initializer in model.graph.initializer}
    return _ports([value for value in model.graph.input if value.name not in constants])


def _outputs(model: onnx.ModelProto) -> list[_Port]:
    return _ports(list(model.graph.output))


def _image_input(inputs: list[_Port]) -> _Port:
    images = [
        port
        for port in inputs
        if len(port.shape) == 4 and 3 in (port.shape[1], port.shape[3]) and port.element in _elements().values()
    ]
    if len(images) != 1:
        raise GraphError(
            f"{'no' if not images else 'more than one'} input of the network is one colour picture "
            f"(1 x 3 x H x W or 1 x H x W x 3): {'; '.join(map(str, inputs)) or 'there are no inputs'}",
            "edgeseg takes networks with one picture in and one mask out",
        )
    return images[0]


def _size(image: _Port) -> tuple[int, int]:
    """(width, height) of the image input."""
    return (image.shape[3], image.shape[2]) if image.shape[1] == 3 else (image.shape[2], image.shape[1])


def _mask_output(
    outputs: list[_Port], size: tuple[int, int], wanted: str | None
) -> tuple[_Port, Literal["nchw", "nhwc", "nhw"], int]:
    """The output that is the mask, its layout and its number of channels."""
    listed = "; ".join(map(str, outputs))
    if wanted is not None and wanted not in {port.name for port in outputs}:
        raise GraphError(f"the network has no output {wanted!r}", f"its outputs: {listed}")
    found = []
    for port in outputs:
        reading = _as_mask(port, size)
        if reading is not None and wanted in (None, port.name):
            found.append((port, *reading))
    if not found:
        raise GraphError(
            f"no output of the network is a mask of its {size[0]}x{size[1]} input: {listed or 'there are no outputs'}",
            "a mask is 1 x C x H x W, 1 x H x W x C or 1 x H x W with the proportions of the input",
        )
    if len(found) > 1:
        raise GraphError(
            f"more than one output of the network could be the mask: {'; '.join(str(port) for port, _, _ in found)}",
            f"name it: --output {found[0][0].name}",
        )
    return found[0]


def _as_mask(port: _Port, size: tuple[int, int]) -> tuple[Literal["nchw", "nhwc", "nhw"], int] | None:
    """Layout and channels of an output if it can be a mask: its plane has the input's proportions."""
    shape = port.shape
    integer = port.element != _elements()["float32"]
    if len(shape) == 3 and integer and _similar((shape[2], shape[1]), size):
        return "nhw", 2
    if len(shape) != 4 or shape[0] != 1:
        return None
    if _similar((shape[3], shape[2]), size) and 1 <= shape[1] <= MAX_CHANNELS:
        return "nchw", shape[1]
    if _similar((shape[2], shape[1]), size) and 1 <= shape[3] <= MAX_CHANNELS:
        return "nhwc", shape[3]
    return None


def _similar(plane: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a plane is the input or the input shrunk by at most 32, give or take the rounding of odd sizes."""
    if min(plane) < 2:
        return False
    across, down = size[0] / plane[0], size[1] / plane[1]
    return 0.5 < across <= 33 and abs(across - down) <= 0.15 * max(across, down)


def _kind(
    model: onnx.ModelProto, image: _Port, output: _Port, channels: int
) -> tuple[Literal["logits", "probabilities", "labels"], str]:
    """What the output holds, and a sentence if that was found out by running the network."""
    if output.element != _elements()["float32"]:
        return "labels", ""
    producers = {name: node for node in model.graph.node for name in node.output}
    node = producers.get(output.name)
    while node is not None and node.op_type in ("Identity", "Resize", "Transpose", "Reshape", "Squeeze", "Unsqueeze"):
        node = producers.get(node.input[0])
    if node is not None and node.op_type in ("Softmax", "Sigmoid"):
        return "probabilities", ""
    if channels != 1:
        return "logits", ""  # argmax is the same for logits and probabilities
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = []
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(size=image.shape)
        feeds = {port.name: np.zeros(port.shape, np.float32) for port in _inputs(model)}
        feeds[image.name] = (
            noise.astype(np.float32)
            if image.element == _elements()["float32"]
            else np.clip(noise * 60 + 128, 0, 255).astype(np.uint8)
        )
        values.append(session.run([output.name], feeds)[0])
    if all(float(value.min()) >= 0.0 and float(value.max()) <= 1.0 for value in values):
        return "probabilities", f"the output {output.name} stays in 0..1 on noise and is taken as a probability"
    return "logits", f"the output {output.name} leaves 0..1 on noise and is taken as a logit"


def _states(model: onnx.ModelProto, image: _Port, output: _Port) -> tuple[State, ...]:
    """Recurrent states: every other input has to have an output of its shape (``r1i`` → ``r1o``, ``h_in`` → ``h_out``)."""
    others = [port for port in _outputs(model) if port.name != output.name]
    states = []
    for port in _inputs(model):
        if port.name == image.name:
            continue
        names = {port.name[:-1] + "o", port.name.replace("in", "out"), port.name.replace("prev", "next")}
        partner = next((other for other in others if other.name in names and other.shape == port.shape), None)
        if partner is None or partner.name == port.name:
            raise GraphError(
                f"the network wants an input {port} besides the picture, and no output returns it as a state",
                "make it a constant in the exported graph; states are recognised by names like h_in / h_out, r1i / r1o",
            )
        states.append(State(port.name, partner.name, port.shape))
    return tuple(states)
