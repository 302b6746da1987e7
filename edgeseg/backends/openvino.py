"""OpenVINO.

An artifact is ``model.xml`` and ``model.bin``. The ModelSpec stands in the model's `rt_info`, whole and in the fields
that OpenVINO Model API reads (``model_info``: model_type, labels, mean_values, scale_values, reverse_input_channels, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.core import plugins, records
from edgeseg.core.arrays import Array
from edgeseg.core.backend import Conversion, Executed, Session, Work, convolution, expect_quantised
from edgeseg.core.errors import ArtifactError, GraphError
from edgeseg.core.spec import SPEC_KEY, ModelSpec

if TYPE_CHECKING:
    import onnx

HINT = "INFERENCE_PRECISION_HINT"


class OpenVinoSession(Session):
    """A compiled model and one request."""

    def __init__(self, path: Path, spec: ModelSpec, *, threads: int, options: Mapping[str, str]) -> None:
        ov = _runtime()
        config: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, **options}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = _compile(ov.Core(), str(path), config)
        except RuntimeError as error:
            raise ArtifactError(f"OpenVINO cannot load {path}: {_reason(error)}") from error
        self._request = self._model.create_infer_request()
        names = [spec.output_name, *(state.output_name for state in spec.states)]
        self._outputs = [(name, self._model.output(name)) for name in names]

    def feed(self, feeds: Mapping[str, Array]) -> None:
        """Let the request read the arrays where they are."""
        ov = _runtime()
        # The request holds no Python reference to shared memory: this one keeps it from going away.
        self._fed = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        for name, array in self._fed.items():
            self._request.set_tensor(name, ov.Tensor(array, shared_memory=True))

    def execute(self) -> None:
        """Infer once."""
        self._request.infer()

    def fetch(self) -> dict[str, Array]:
        """Copies of the outputs."""
        return {name: self._request.get_tensor(port).data.copy() for name, port in self._outputs}

    def executed_precisions(self) -> dict[str, str]:
        """What the CPU plug-in really multiplies in: node name to precision, from the compiled graph."""
        model = self._model.get_runtime_model()
        found = {}
        for node in model.get_ops():
            info = node.get_rt_info()
            if "runtimePrecision" in info and str(info["layerType"].value) in _MULTIPLIES:
                found[node.get_friendly_name()] = str(info["runtimePrecision"].value)
        return found

    def close(self) -> None:
        """Give back the compiled model."""
        del self._outputs, self._request, self._model


class OpenVinoBackend:
    """See the module."""

    name = "openvino"
    precisions = ("fp32", "fp16", "int8")
    package = "openvino"
    extra = "openvino"

    def convert(self, model: onnx.ModelProto, spec: ModelSpec, precision: str, out: Path) -> Conversion:
        """Write ``model.xml`` and ``model.bin``."""
        import io

        ov = _runtime()
        if precision == "int8":
            expect_quantised(model)
        try:
            network = model  # another tool's quantiser hands over what it made
            if hasattr(model, "SerializeToString"):
                network = ov.Core().read_model(io.BytesIO(model.SerializeToString()))
            _check_names(network, spec)
        except RuntimeError as error:
            raise GraphError(
                f"OpenVINO cannot convert this network: {_reason(error)}",
                "try --target onnx to see whether it runs",
            ) from error
        for key, value in model_info(spec).items():
            network.set_rt_info(value, ["model_info", key])
        network.set_rt_info(records.to_json(spec), [SPEC_KEY.split(".")[0], SPEC_KEY.split(".")[1]])
        ov.save_model(network, str(out / "model.xml"), compress_to_fp16=precision == "fp16")
        return Conversion(
            files=("model.xml", "model.bin"),
            spec=spec,
            # OpenVINO computes in bf16 or f16 by default where the CPU can. An fp32 artifact has to be fp32 anywhere.
            runtime_options={HINT: "f32"} if precision == "fp32" else {},
            notes=()
            if precision == "fp32"
            else ("what is not int8 OpenVINO computes as it likes (f32, bf16 or f16)",)
            if precision == "int8"
            else ("OpenVINO picks the precision of the computation (f32, bf16 or f16)",),
        )

    def load(self, path: Path, spec: ModelSpec, *, threads: int, options: Mapping[str, str]) -> OpenVinoSession:
        """Compile ``model.xml`` for the CPU."""
        return OpenVinoSession(path, spec, threads=threads, options=options)

    def executed(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> Executed:
        """Look into the compiled graph: every node of it has a `runtimePrecision`."""
        return executed_macs(path, options)

    def work(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> list[Work]:
        """The operators of the model in the file."""
        return work(path)


BACKEND = OpenVinoBackend()


_MULTIPLIES = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
"""What the compiled graph calls the layers that cost time; the others say what is stored, not what is computed in."""
_PRODUCTS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")


def executed_macs(path: Path, options: Mapping[str, str]) -> Executed:
    """Multiply-accumulates by `runtimePrecision`; the counts come from the model as it is in the file."""
    ov = _runtime()
    network = ov.Core().read_model(str(path))
    macs = {node.get_friendly_name(): _product(node).macs for node in _products(network)}
    integer = 0
    compiled = _compile(ov.Core(), network, options)
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if "originalLayersNames" not in info or "runtimePrecision" not in info:
            continue
        if str(info["runtimePrecision"].value) in ("i8", "u8"):
            names = str(info["originalLayersNames"].value).split(",")
            integer += sum(macs.get(name, 0) for name in names)
    note = "on ARM, OpenVINO runs this INT8 model in float, not in integers" if _is_arm() and not integer else ""
    return Executed(sum(macs.values()), integer, note)


_FREE = (
    "Constant", "Convert", "Parameter", "Reshape", "Result", "Squeeze", "Unsqueeze",
    "Add", "Relu", "Clamp", "Multiply", "Subtract",
)  # fmt: skip
"""What moves nothing, and what the CPU plug-in puts into the operator before it (biases, activations, scales)."""


def work(path: Path) -> list[Work]:
    """The operators of the model in the file; those that the CPU plug-in fuses into others are left out."""
    import math

    try:
        network = _runtime().Core().read_model(str(path))
    except RuntimeError as error:
        raise ArtifactError(f"OpenVINO cannot read {path.name}: {_reason(error)}") from error
    found = []
    for node in network.get_ops():
        if node.get_type_name() in _PRODUCTS:
            found.append(_product(node))
        elif node.get_type_name() not in _FREE and not _is_constant(node):
            sizes = [math.prod(one.get_shape()) for one in node.inputs() if len(one.get_shape()) > 1]
            found.append(Work("other", 0, 0, sum(sizes), math.prod(node.output(0).get_shape())))
    return found


def _products(network: Any) -> list[Any]:
    return [node for node in network.get_ops() if node.get_type_name() in _PRODUCTS]


def _product(node: Any) -> Work:
    """A layer that multiplies; the weights of grouped convolutions have one dimension more, the groups."""
    import math

    kind, given = node.get_type_name(), list(node.input(0).get_shape())
    weight, made = list(node.input(1).get_shape()), list(node.output(0).get_shape())
    constant = _is_constant(node.input(1).get_source_output().get_node())
    weights = math.prod(weight) if constant else 0
    reads = math.prod(given) + (0 if constant else math.prod(weight))
    if kind == "MatMul":
        kernel, macs = "matrix", math.prod(made) * given[-1]
    elif "Backprop" in kind:
        kernel, macs = "transposed", math.prod(weight) * math.prod(given[2:])
    else:
        groups = weight[0] if kind == "GroupConvolution" else 1
        kernel, macs = convolution(groups, given[1], weight[-2:]), math.prod(weight) * math.prod(made[2:])
    return Work(
        kernel, macs, weights, reads, math.prod(made), _is_integer(node.input(1).get_source_output().get_node())
    )


def _is_constant(node: Any) -> bool:
    """Whether a node is known at load time; shapes are, because the graphs have static ones."""
    if node.get_type_name() in ("Constant", "ShapeOf"):
        return True
    sources = [one.get_source_output().get_node() for one in node.inputs()]
    return bool(sources) and all(_is_constant(source) for source in sources)


def _is_integer(node: Any) -> bool:
    """Whether weights lie in the file as 8-bit integers."""
    while node.get_type_name() != "Constant" and node.get_input_size():
        node = node.input(0).get_source_output().get_node()
    return node.get_type_name() == "Constant" and str(node.get_element_type().get_type_name()) in ("i8", "u8")


def _compile(core: Any, model: Any, config: Mapping[str, str | int]) -> Any:
    """Compile for the CPU; on Arm, INT8 models whose integer form the plug-in refuses are computed in float.

    OpenVINO 2026.4 on Arm turns Q/DQ into integer convolutions that its own float kernels then reject ("Convolution
    input precision should be single"). Without that transformation it rounds to the same 256 levels and multiplies in
    float, which `executed_precisions` shows.
    """
    try:
        return core.compile_model(model, "CPU", dict(config))
    except RuntimeError:
        if not _is_arm():
            raise
        return core.compile_model(model, "CPU", {**config, **_FLOAT_ON_ARM})


_FLOAT_ON_ARM = {"LP_TRANSFORMS_MODE": "NO"}


def _is_arm() -> bool:
    import platform

    return platform.machine().lower() in ("aarch64", "arm64", "armv7l")


def model_info(spec: ModelSpec) -> dict[str, str]:
    """The spec in the fields of OpenVINO Model API, which normalises pixels of 0..255: ``(x - mean) / scale``."""
    return {
        "model_type": "Segmentation",
        "labels": " ".join(name.replace(" ", "_") for name in spec.classes),
        "resize_type": "standard",
        "interpolation_type": "LINEAR",
        "reverse_input_channels": str(spec.color == "rgb"),  # Model API is given BGR pictures
        "mean_values": " ".join(f"{255 * value:g}" for value in spec.mean),
        "scale_values": " ".join(f"{255 * value:g}" for value in spec.std),
        "soft_threshold": "0.5",
        "blur_strength": "-1",
        "return_soft_prediction": "True",
    }


def _check_names(network: Any, spec: ModelSpec) -> None:
    """Every tensor that the spec names has to be there: `input` and `output` raise RuntimeError if not."""
    for name in (spec.input_name, *(state.input_name for state in spec.states)):
        network.input(name)
    for name in (spec.output_name, *(state.output_name for state in spec.states)):
        network.output(name)


def _runtime() -> Any:
    return plugins.require("openvino", extra="openvino", what="the backend openvino")


def _reason(error: Exception) -> str:
    """OpenVINO's messages carry C++ file names, checks and advice; of the rest the last line is the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    noise = ("Exception from", "Check '", "To facilitate the conversion", "FrontEnd API failed", "Summary:")
    told = [line.lstrip("- ") for line in lines if not line.startswith(noise)]
    return (told or lines or [type(error).__name__])[-1]
