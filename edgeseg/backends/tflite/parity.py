"""The last step of every conversion: the file's values against ONNX Runtime's, and where they part if they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeseg.backends.tflite import layout
from edgeseg.backends.tflite.context import Value
from edgeseg.backends.tflite.lowering import Lowered
from edgeseg.backends.tflite.prepare import Graph, Node, Port
from edgeseg.backends.tflite.runtime import TfliteSession
from edgeseg.core.arrays import Array
from edgeseg.core.errors import EdgesegError, GraphError
from edgeseg.core.spec import ModelSpec

TOLERANCE = 2e-4
"""Largest difference to ONNX Runtime, as a share of the output's largest value, for float32."""

HALF_TOLERANCE = 5e-2
"""The same with weights in half precision (11 bits each), after the float32 form has passed."""

_FLIPPED = 1e-3
"""Share of integer or boolean elements that may differ: the decisions that hang on the last bits of a float."""


@dataclass(frozen=True)
class Trial:
    """One set of inputs, laid out as ONNX says, and what ONNX Runtime makes of it."""

    name: str
    feeds: dict[str, Array]
    expected: dict[str, Array]


def natural_image(height: int, width: int) -> Array:
    """A picture with what photos have: a smooth background, a figure with a hard outline, fine texture.

    Returns:
        uint8 [height, width, 3].
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    y, x = y / max(height - 1, 1), x / max(width - 1, 1)
    image = np.stack([200 - 90 * y, 170 + 40 * x - 60 * y, 150 + 70 * x * y], axis=-1)
    figure = ((x - 0.5) / 0.13) ** 2 + ((y - 0.33) / 0.2) ** 2 < 1
    figure |= (((x - 0.5) / 0.33) ** 2 + ((y - 1.05) / 0.5) ** 2) < 1
    image[figure] = np.stack([205 - 60 * y, 150 - 50 * y + 30 * x, 120 + 40 * x], axis=-1)[figure]
    image += 9.0 * np.sin(70 * x + 31 * y)[..., None] + np.random.default_rng(1).normal(0, 5, image.shape)
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def trials(graph: Graph, spec: ModelSpec | None) -> Iterator[tuple[str, dict[str, Array]]]:
    """Inputs to compare on: numbers from a normal distribution, then a picture in the network's own pre-processing.

    Integers are of both signs, then 0 or 1, then 1, because some are indices and some divisors.
    """
    for name, integers in (("random", (-20, 20)), ("natural", (0, 2)), ("random", (1, 2))):
        if integers == (1, 2) and all(port.dtype.kind not in "iu" for port in graph.inputs):
            continue
        rng = np.random.default_rng(0)
        feeds = {port.name: _numbers(port, rng, *integers) for port in graph.inputs}
        if name == "natural":
            for port in graph.inputs:
                picture = _picture(port, spec)
                if picture is not None:
                    feeds[port.name] = picture
        yield name, feeds


def _numbers(port: Port, rng: np.random.Generator, low: int, high: int) -> Array:
    """Random content; integers are in [low, high)."""
    if port.dtype == np.bool_:
        return rng.random(port.shape) < 0.5
    if port.dtype.kind in "iu":
        return rng.integers(max(low, 0) if port.dtype.kind == "u" else low, high, port.shape).astype(port.dtype)
    return rng.standard_normal(port.shape).astype(port.dtype)


def _picture(port: Port, spec: ModelSpec | None) -> Array | None:
    """The picture as this input takes it, or None for an input that takes no picture."""
    if spec is None or port.name != spec.input_name or port.shape != spec.input_shape:
        return None
    image = natural_image(spec.height, spec.width)
    if spec.color == "bgr":
        image = image[..., ::-1]
    if port.dtype == np.float32:
        image = ((image / 255.0 - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32)
    batch = image[None]
    return np.ascontiguousarray(batch if spec.input_layout == "nhwc" else batch.transpose(0, 3, 1, 2))


def reference(model: Any) -> Any:
    """ONNX Runtime with graph optimisations off.

    Raises:
        GraphError: ONNX Runtime refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise GraphError(
            f"ONNX Runtime cannot open the model, so the TFLite file cannot be checked: {error}", "check the ONNX file"
        ) from error


def prepared_trials(graph: Graph, spec: ModelSpec | None) -> list[Trial]:
    """The trials with ONNX Runtime's results.

    Raises:
        GraphError: ONNX Runtime runs the model on none of them.
    """
    session = reference(graph.source)
    names = [output.name for output in session.get_outputs()]
    done, reason = [], ""
    for name, feeds in trials(graph, spec):
        try:
            done.append(Trial(name, feeds, dict(zip(names, session.run(None, feeds), strict=True))))
        except Exception as error:  # e.g. random integers that are no valid indices
            reason = str(error)
    if not done:
        raise GraphError(
            f"ONNX Runtime cannot run the model, so the TFLite file cannot be checked: {reason}", "check the ONNX file"
        )
    return done


def difference(expected: Array, found: Array) -> float:
    """How far two arrays are apart: a share of the largest value for floats, of the elements for all else."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if expected.size == 0:
        return 0.0
    if expected.dtype.kind != "f":
        return float(np.mean(expected != found))
    finite = np.isfinite(expected)
    if not np.array_equal(np.isnan(expected), np.isnan(found)):
        return float("inf")
    if not np.array_equal(expected[~finite & ~np.isnan(expected)], found[~finite & ~np.isnan(expected)]):
        return float("inf")
    if not finite.any():
        return 0.0
    a, b = expected[finite].astype(np.float64), found[finite].astype(np.float64)
    if not np.isfinite(b).all():
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6))


def agrees(expected: Array, found: Array, tolerance: float) -> bool:
    """Whether two arrays are the same within the tolerance for floats, and `_FLIPPED` for decisions."""
    return difference(expected, found) <= (tolerance if expected.dtype.kind == "f" else _FLIPPED)


def check(lowered: Lowered, content: bytes, spec: ModelSpec | None = None, *, half: bool = False) -> float:
    """Run a file against ONNX Runtime.

    Args:
        lowered: Where the file comes from.
        content: The file.
        spec: For the natural picture; without it all inputs are random.
        half: The file has half-precision weights: then the float32 form is checked first, and this one loosely.

    Returns:
        The largest difference seen, as `difference` counts it.

    Raises:
        GraphError: The values differ; the node where they part is named.
    """
    cases = prepared_trials(lowered.graph, spec)
    single = lowered.builder.serialize() if half else content
    worst = _compare(lowered, single, cases, TOLERANCE)
    if half:
        worst = _compare(lowered, content, cases, HALF_TOLERANCE)
    return worst


def _compare(lowered: Lowered, content: bytes, cases: list[Trial], tolerance: float) -> float:
    session = _opened(content)
    worst = 0.0
    for case in cases:
        try:
            found = run(session, lowered, case.feeds)
        except EdgesegError as error:
            raise GraphError(f"LiteRT does not run the file: {error.message}", "please report the network") from error
        for name, expected in case.expected.items():
            apart = difference(expected, found[name])
            worst = max(worst, apart)
            if not agrees(expected, found[name], tolerance):
                where = parting(lowered, case, tolerance)
                raise GraphError(
                    f"the TFLite file does not compute what the ONNX model does: output {name!r} differs by "
                    f"{apart:.2g} of its largest value on {case.name} input; {where}",
                    "nothing was written; please report the node, and try --converter onnx2tf meanwhile",
                )
    return worst


def _opened(content: bytes) -> TfliteSession:
    try:
        return TfliteSession(content, 1)
    except EdgesegError as error:
        raise GraphError(f"LiteRT does not take the file: {error.message}", "please report the network") from error


def run(session: TfliteSession, lowered: Lowered, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a file on inputs laid out as ONNX says, and give its outputs as ONNX lays them out."""
    given = {name: np.array(array.transpose(lowered.orders[name]), order="C") for name, array in feeds.items()}
    return {name: _logical(array, lowered.orders.get(name)) for name, array in session.run(given).items()}


def _logical(array: Array, order: layout.Order | None) -> Array:
    return array if order is None else array.transpose(np.argsort(order))


def parting(lowered: Lowered, case: Trial, tolerance: float = TOLERANCE) -> str:
    """The first node whose values differ, found by making every intermediate value an output of both graphs."""
    import onnx

    probes = _probes(lowered)
    model = onnx.ModelProto()
    model.CopyFrom(lowered.graph.model)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in probes if name not in present)
    try:
        session = reference(model)
        names = [output.name for output in session.get_outputs()]
        expected = dict(zip(names, session.run(None, dict(case.feeds)), strict=True))
        content = lowered.builder.serialize(
            probes={name: value.tensor for name, value in probes.items() if value.tensor}
        )
        found = TfliteSession(content, 1).run(
            {name: np.array(case.feeds[name].transpose(lowered.orders[name]), order="C") for name in case.feeds}
        )
    except Exception as error:  # the message above stands on its own; this one only narrows it down
        return f"the node could not be found ({error})"
    for node in lowered.graph.nodes:
        for name in node.outputs:
            if name not in probes and name not in present:
                continue
            order = probes[name].order if name in probes else lowered.orders[name]
            if not agrees(expected[name], _typed(_logical(found[name], order), expected[name]), tolerance):
                return f"the values part at {_named(lowered, node, {*probes, *present})}"
    return "no single node is to blame: small differences add up"


def _named(lowered: Lowered, node: Node, seen: set[str]) -> str:
    """A node's label, with those of the nodes before it that were written as one operator with it."""
    makers = {name: maker for maker in lowered.graph.nodes for name in maker.outputs}
    hidden: list[Node] = []
    queue = [node]
    while queue:
        for name in queue.pop().inputs:
            maker = makers.get(name)
            if maker is not None and name not in seen and maker not in hidden and maker.op != "Constant":
                hidden.append(maker)
                queue.append(maker)
    others = ", ".join(maker.label for maker in hidden)
    return f"{node.label} (seen together with {others})" if others else node.label


def _typed(found: Array, expected: Array) -> Array:
    """An intermediate int32 value as the int64 that ONNX has."""
    return found.astype(expected.dtype) if found.dtype.kind == expected.dtype.kind else found


def _probes(lowered: Lowered) -> dict[str, Value]:
    """The ONNX values that some operator of the file writes, without the outputs of the graph."""
    written = {index for op in lowered.builder.operators for index in op.outputs}
    outside = {*lowered.builder.outputs.values(), *lowered.builder.inputs.values()}
    main = {name for node in lowered.graph.model.graph.node for name in node.output}
    seen: set[int] = set()
    probes = {}
    for node in lowered.graph.nodes:
        for name in node.outputs:
            value = lowered.values.get(name)
            if name not in main or value is None or value.tensor is None or name in lowered.builder.outputs:
                continue
            if value.tensor in written and value.tensor not in outside | seen:
                seen.add(value.tensor)
                probes[name] = value
    return probes
