"""ONNX Runtime.

An artifact is one ``model.onnx``. The ModelSpec stands in its `metadata_props`, so that a program that has never heard
of edgeseg finds size, colour order, mean and std in the file itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.core import atomic, plugins, records
from edgeseg.core.arrays import Array
from edgeseg.core.backend import Conversion, Executed, Session, Work, convolution, expect_quantised
from edgeseg.core.errors import ArtifactError
from edgeseg.core.spec import SPEC_KEY, ModelSpec

if TYPE_CHECKING:
    import onnx

PLAIN = "graph_optimizations"
"""Runtime option: ``off`` runs the graph as it is written, node by node. The reference runs so."""

FLOAT_LAYERS = "float_layers"
"""Runtime option: ``kept`` leaves layers in float that were left in float. By itself ONNX Runtime quantises the weights
of a float convolution between Q/DQ pairs, per tensor and unasked."""

SPINNING = "spinning"
"""Runtime option: ``off`` lets idle threads sleep instead of waiting busily for the next run."""


class OnnxSession(Session):
    """An `onnxruntime.InferenceSession` on the CPU."""

    def __init__(self, model: str | bytes, outputs: list[str], *, threads: int, options: Mapping[str, str]) -> None:
        ort = plugins.require("onnxruntime", extra="", what="the backend onnx")
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        if options.get(PLAIN) == "off":
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if options.get(SPINNING) == "off":
            settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(
                model, settings, providers=["CPUExecutionProvider"], disabled_optimizers=_disabled(options)
            )
        except Exception as error:  # ONNX Runtime raises a class of its own for each status
            raise ArtifactError(f"ONNX Runtime cannot load the model: {error}") from error
        self._outputs = outputs

    def feed(self, feeds: Mapping[str, Array]) -> None:
        """Remember the arrays; ONNX Runtime reads them where they are."""
        self._feeds = dict(feeds)

    def execute(self) -> None:
        """Infer once."""
        self._values = self._session.run(self._outputs, self._feeds)

    def fetch(self) -> dict[str, Array]:
        """The arrays that ONNX Runtime made; the next run makes others."""
        return dict(zip(self._outputs, self._values))  # noqa: B905 - Python 3.9, on which the worker runs, has no `strict`

    def close(self) -> None:
        """Give back the session's memory."""
        del self._session


class OnnxBackend:
    """See the module."""

    name = "onnx"
    precisions = ("fp32", "fp16", "int8")
    package = "onnxruntime"
    extra = ""

    def convert(self, model: onnx.ModelProto, spec: ModelSpec, precision: str, out: Path) -> Conversion:
        """Write ``model.onnx``; `fp16` stores the weights in half precision and computes as before, `int8` is Q/DQ."""
        import onnx

        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        if precision == "int8":
            expect_quantised(model)
        if precision == "fp16":
            store_weights_as_half(copy)
        describe(copy, spec)
        onnx.checker.check_model(copy)
        atomic.write_bytes(out / "model.onnx", copy.SerializeToString(deterministic=True))
        mixed = precision == "int8" and _has_float_layers(copy)
        return Conversion(files=("model.onnx",), spec=spec, runtime_options={FLOAT_LAYERS: "kept"} if mixed else {})

    def load(self, path: Path, spec: ModelSpec, *, threads: int, options: Mapping[str, str]) -> OnnxSession:
        """Open ``model.onnx``."""
        return OnnxSession(str(path), output_names(spec), threads=threads, options=options)

    def executed(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> Executed:
        """Look into the optimised graph and profile one run of it."""
        return executed_macs(path, spec, options)

    def work(self, path: Path, spec: ModelSpec, options: Mapping[str, str]) -> list[Work]:
        """The nodes of the optimised graph, which is the same on another processor but for blocked layouts."""
        return work(path, spec, options)


BACKEND = OnnxBackend()


def _disabled(options: Mapping[str, str]) -> list[str]:
    return ["WeightBiasQuantization"] if options.get(FLOAT_LAYERS) == "kept" else []


def _has_float_layers(model: onnx.ModelProto) -> bool:
    """Whether a convolution has float weights beside those of Q/DQ pairs."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return any(node.op_type == "Conv" and node.input[1] in constants for node in model.graph.node)


def output_names(spec: ModelSpec) -> list[str]:
    """The outputs that a run has to return: the scores, and the next state of recurrent networks."""
    return [spec.output_name, *(state.output_name for state in spec.states)]


_WEIGHT_INPUT = {"Conv": 1, "FusedConv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
_MATRIX = ("MatMul", "Gemm", "FusedMatMul", "MatMulInteger", "QLinearMatMul", "QGemm")
_INTEGER = ("QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul", "QGemm")


_FREE = ("Constant", "DequantizeLinear", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze")
"""Nodes that move nothing, or (DequantizeLinear, of constants) nothing after loading."""


def executed_macs(path: Path, spec: ModelSpec, options: Mapping[str, str]) -> Executed:
    """Multiply-accumulates by kernel: the nodes of the optimised graph, with the shapes that a profiled run had."""
    done = work(path, spec, options)
    return Executed(sum(one.macs for one in done), sum(one.macs for one in done if one.integer))


def work(path: Path, spec: ModelSpec, options: Mapping[str, str]) -> list[Work]:
    """See `edgeseg.core.backend.Backend.work`."""
    graph, ran = _profiled(path, spec, options)
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:  # the weights of a convolution that was taken back to float
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    found = []
    for node in graph.node:
        shapes = ran.get(node.name, {})
        if "output_type_shape" not in shapes:
            continue
        made = [_typed(one) for one in shapes["output_type_shape"]]
        given = [_typed(one) for one in shapes["input_type_shape"]]
        one = _work(node, given, made, constants)
        if one is not None:
            found.append(one)
    return found


def _work(
    node: onnx.NodeProto, given: list[_Typed], made: list[_Typed], constants: Mapping[str, tuple[int, ...]]
) -> Work | None:
    """One node; None if it costs nothing."""
    import math

    kind = node.op_type
    writes = sum(math.prod(shape) for _, shape in made)
    if kind in _WEIGHT_INPUT and node.input[_WEIGHT_INPUT[kind]] in constants:
        weight = constants[node.input[_WEIGHT_INPUT[kind]]]
        source = given[0][1]
        if kind == "ConvTranspose":
            kernel, macs = "transposed", math.prod(weight) * math.prod(source[2:])
        else:
            kernel = convolution(source[1] // weight[1], source[1], weight[2:])
            macs = math.prod(weight) * (math.prod(made[0][1]) // weight[0])
        return Work(kernel, macs, math.prod(weight), math.prod(source), writes, kind in _INTEGER)
    if kind in _MATRIX:
        weights = sum(math.prod(constants[name]) for name in node.input if len(constants.get(name, ())) > 1)
        macs = math.prod(made[0][1]) * given[0][1][-1]
        reads = max(0, sum(math.prod(shape) for _, shape in given if len(shape) > 1) - weights)
        return Work("matrix", macs, weights, reads, writes, kind in _INTEGER)
    if kind in _FREE and not (kind == "DequantizeLinear" and node.input[0] not in constants):
        return None
    large = [(name, shape) for name, shape in given if len(shape) > 1]
    reads = sum(math.prod(shape) for _, shape in large)
    return Work("other", 0, 0, reads, writes, made[0][0] in ("int8", "uint8"))


_Typed = tuple[str, tuple[int, ...]]
"""A tensor's type and shape, as ONNX Runtime's profile has them."""


def _typed(described: Mapping[str, list[int]]) -> _Typed:
    name, shape = next(iter(described.items()))
    return name, tuple(shape)


def _profiled(
    path: Path, spec: ModelSpec, options: Mapping[str, str]
) -> tuple[onnx.GraphProto, dict[str, dict[str, Any]]]:
    """The optimised graph, and by the name of a node what the profile of one run says of it.

    The blocked layout of float convolutions (NCHWc) is left out, because it pads channels; it changes no precision.
    """
    import json
    import tempfile

    import numpy as np
    import onnx

    ort = plugins.require("onnxruntime", extra="", what="the backend onnx")
    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node.{number}"  # by its name a node is found again in the profile
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        settings.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session = ort.InferenceSession(
            model.SerializeToString(),
            settings,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["NchwcTransformer", *_disabled(options)],
        )
        feeds = {spec.input_name: np.zeros(spec.input_shape, spec.input_dtype)}
        feeds.update({state.input_name: np.zeros(state.shape, np.float32) for state in spec.states})
        session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load(Path(folder) / "optimised.onnx").graph
    return graph, {event["name"].removesuffix("_kernel_time"): event["args"] for event in events if "args" in event}


def describe(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Put the spec into a model's `metadata_props`: whole as JSON, and the usual fields one by one."""
    properties = {
        SPEC_KEY: records.to_json(spec),
        "input_size": f"{spec.width}x{spec.height}",
        "color": spec.color,
        "mean": " ".join(map(str, spec.mean)),
        "std": " ".join(map(str, spec.std)),
        "classes": ",".join(spec.classes),
        "output": spec.output_kind,
    }
    kept = [entry for entry in model.metadata_props if entry.key not in properties]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)


def store_weights_as_half(model: onnx.ModelProto) -> None:
    """Store float32 weights as float16, each followed by a Cast that the runtime folds once at load time.

    Half of the bytes, the same kernels and the same activations: on CPUs without half-precision kernels a graph whose
    activations are half precision too only gains casts around every node. Small tensors stay as they are, because
    they are scales, shapes and biases that weigh nothing.

    Args:
        model: Changed in place.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initializer)
        if values.size < 64 or float(np.abs(values).max(initial=0.0)) > float(np.finfo(np.float16).max):
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)
