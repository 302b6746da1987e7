"""The way out for graphs that the writer refuses: onnx2tf, in an environment of its own, through the same check.

onnx2tf pins every package that it uses and needs a newer Python, so it is installed on request only
(``edgeseg doctor --install onnx2tf``) and run as a program. Only its float32 file is taken: its half-precision and integer files mostly
do not run.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from edgeseg.backends.tflite import layout, parity
from edgeseg.backends.tflite.layout import Order
from edgeseg.backends.tflite.prepare import prepare
from edgeseg.backends.tflite.runtime import TfliteSession
from edgeseg.core import atomic, environments
from edgeseg.core.arrays import Array
from edgeseg.core.backend import Conversion
from edgeseg.core.errors import EdgesegError, GraphError
from edgeseg.core.spec import ModelSpec

VERSION = "2.6.9"

ENVIRONMENT = environments.Environment(
    name="onnx2tf",
    # onnxsim is a program that onnx2tf starts by name; without it onnx2tf writes files that cannot be opened.
    requirements=(f"onnx2tf=={VERSION}", "onnxsim"),
    pythons=((3, 12), (3, 13)),
    install_command="edgeseg doctor --install onnx2tf",
    probe="import onnx2tf",
    download="600 MB",
)
TIMEOUT_S = 1800


def convert(model: Any, spec: ModelSpec, precision: str, out: Path) -> Conversion:
    """Write `model.tflite` with onnx2tf.

    Args:
        model: `onnx.ModelProto` with static shapes.
        spec: The spec of `model`.
        precision: ``fp32``.
        out: An existing, empty folder.

    Returns:
        What was written; its spec has the layouts that onnx2tf chose, which are found by running the file.

    Raises:
        MissingDependency: onnx2tf's environment has not been made.
        GraphError: onnx2tf fails, or its file cannot be opened or computes something else; nothing is written.
    """
    if precision != "fp32":
        raise EdgesegError(f"onnx2tf writes usable files in fp32 only, not {precision}", "--precision fp32")
    environments.python(ENVIRONMENT)
    content = run_program(model)
    try:
        session = TfliteSession(content, 1)
    except EdgesegError as error:
        raise GraphError(
            f"onnx2tf's file cannot be opened: {error.message}", "replace the operator that it names in the network"
        ) from error
    orders = matching_orders(model, spec, session)
    atomic.write_bytes(out / "model.tflite", content)
    states = tuple(
        replace(state, shape=layout.physical(state.shape, orders[state.input_name])) for state in spec.states
    )
    return Conversion(
        files=("model.tflite",),
        spec=replace(
            spec,
            input_layout=_layout(spec.input_layout, orders[spec.input_name]),
            output_layout=spec.output_layout
            if spec.output_layout == "nhw"
            else _layout(spec.output_layout, orders[spec.output_name]),
            states=states,
        ),
        notes=(f"written by onnx2tf {VERSION}, without TFLite Metadata",),
    )


def run_program(model: Any) -> bytes:
    """Run onnx2tf on a model and read its float32 file."""
    import onnx

    scripts = environments.python(ENVIRONMENT).parent
    with tempfile.TemporaryDirectory(prefix="edgeseg-onnx2tf-") as scratch:
        source = Path(scratch) / "model.onnx"
        onnx.save(model, str(source))
        answer = environments.run(
            ENVIRONMENT,
            ["-c", "from onnx2tf import main; main()",
             "-i", str(source), "-o", str(Path(scratch) / "out"), "-n", "-v", "error"],
            timeout_s=TIMEOUT_S,
            cwd=Path(scratch),
            variables={"PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"},
        )  # fmt: skip
        written = Path(scratch) / "out" / "model_float32.tflite"
        if answer.returncode or not written.is_file():
            raise GraphError(
                f"onnx2tf cannot convert the model: {answer.last_words}", "replace the operator that it names"
            )
        return written.read_bytes()


def matching_orders(model: Any, spec: ModelSpec, session: TfliteSession) -> dict[str, Order]:
    """The layouts of a file's inputs and outputs, found by comparing its values with ONNX Runtime's.

    Raises:
        GraphError: The file agrees with the model in no layout.
    """
    graph = prepare(model, frozenset(node.op_type for node in model.graph.node))
    shapes = {port.name: port.shape for port in graph.inputs}
    cases = parity.prepared_trials(graph, spec)
    shapes.update({name: array.shape for name, array in cases[0].expected.items()})
    held = {name: tuple(map(int, detail["shape"])) for name, detail in {**session.inputs, **session.outputs}.items()}
    if set(held) != set(shapes):
        raise GraphError(
            f"onnx2tf's file has the inputs and outputs {', '.join(sorted(held))}, not {', '.join(sorted(shapes))}",
            "give the network plain input and output names",
        )
    choices = {name: _choices(shape, held[name]) for name, shape in shapes.items()}
    inputs = [port.name for port in graph.inputs]
    best: dict[str, float] = {}
    for combination in itertools.product(*(choices[name] for name in inputs)):
        orders = dict(zip(inputs, combination, strict=True))
        agreed = _agreeing(cases, session, orders, choices, best)
        if agreed is not None:
            return {**orders, **agreed}
    worst = "; ".join(f"output {name!r} differs by {apart:.2g} of its largest value" for name, apart in best.items())
    raise GraphError(
        f"onnx2tf's file does not compute what the ONNX model does: {worst}", "nothing was written; onnx2tf has a fault"
    )


def _choices(shape: layout.Shape, held: layout.Shape) -> list[Order]:
    """Orders in which this shape becomes the one that the file has."""
    candidates = [layout.identity(len(shape))]
    if len(shape) == 4:
        candidates.append(layout.NHWC)
    found = [order for order in candidates if layout.physical(shape, order) == held]
    if not found:
        raise GraphError(f"onnx2tf's file holds {shape} as {held}", "onnx2tf has a fault")
    return found


def _agreeing(
    cases: list[parity.Trial],
    session: TfliteSession,
    inputs: Mapping[str, Order],
    choices: Mapping[str, list[Order]],
    best: dict[str, float],
) -> dict[str, Order] | None:
    """The outputs' orders with which all trials agree, or None; `best` keeps the smallest differences seen."""
    import numpy as np

    runs: list[dict[str, Array]] = []
    for case in cases:
        runs.append(session.run({n: np.array(a.transpose(inputs[n]), order="C") for n, a in case.feeds.items()}))
    orders: dict[str, Order] = {}
    for name in cases[0].expected:
        for order in choices[name]:
            apart = max(
                parity.difference(case.expected[name], found[name].transpose(np.argsort(order)))
                for case, found in zip(cases, runs, strict=True)
            )
            best[name] = min(apart, best.get(name, float("inf")))
            if apart <= parity.TOLERANCE:
                orders[name] = order
                break
    return orders if set(orders) == set(cases[0].expected) else None


def _layout(now: str, order: Order) -> Literal["nchw", "nhwc"]:
    """The layout of a file's tensor, from the model's layout and the order that was found."""
    if order == layout.NHWC:
        return "nhwc"
    return "nhwc" if now == "nhwc" else "nchw"
