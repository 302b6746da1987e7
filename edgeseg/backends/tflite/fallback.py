"""The way out for graphs that the writer refuses: onnx2tf, in an environment of its own, through the same check.

onnx2tf pins every package that it uses and needs a newer Python, so it is installed on request only
(`install_onnx2tf`) and run as a program. Only its float32 file is taken: its half-precision and integer files mostly
do not run.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from edgeseg.backends.tflite import layout, parity
from edgeseg.backends.tflite.builder import Array
from edgeseg.backends.tflite.layout import Order
from edgeseg.backends.tflite.prepare import prepare
from edgeseg.backends.tflite.runtime import TfliteSession
from edgeseg.core import atomic
from edgeseg.core.backend import Conversion
from edgeseg.core.errors import EdgesegError, GraphError, MissingDependency
from edgeseg.core.spec import ModelSpec

VERSION = "2.6.9"
PACKAGES = (f"onnx2tf=={VERSION}", "onnxsim")
"""onnxsim is a program that onnx2tf starts by name; without it onnx2tf writes files that cannot be opened."""

OLDEST_PYTHON = (3, 12)
INSTALL = "edgeseg doctor --install onnx2tf"
_DONE = ".installed"


def environment() -> Path:
    """Folder of onnx2tf's own environment, in the user's cache."""
    import platformdirs

    return Path(platformdirs.user_cache_path("edgeseg")) / f"onnx2tf-{VERSION}"


def installed() -> bool:
    """Whether `install_onnx2tf` has run to its end."""
    return (environment() / _DONE).is_file()


def pythons() -> Iterator[Path]:
    """Interpreters that may be new enough: this one, those on the PATH, and pyenv's."""
    yield Path(sys.executable)
    for minor in range(20, OLDEST_PYTHON[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            yield Path(found)
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from sorted(versions.glob("3.*/bin/python"), reverse=True)


def find_python() -> Path:
    """The first interpreter that onnx2tf runs on.

    Raises:
        MissingDependency: There is none.
    """
    for candidate in pythons():
        answer = subprocess.run(
            [str(candidate), "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        numbers = answer.stdout.split()
        if answer.returncode == 0 and len(numbers) == 2 and (int(numbers[0]), int(numbers[1])) >= OLDEST_PYTHON:
            return candidate
    wanted = ".".join(map(str, OLDEST_PYTHON))
    raise MissingDependency(
        f"onnx2tf {VERSION} needs Python {wanted} or newer, and there is none on the PATH or in pyenv",
        f"install Python {wanted} (e.g. pyenv install {wanted}), then: {INSTALL}",
    )


def install_onnx2tf() -> Path:
    """Make onnx2tf's environment (about 600 MB), or find it made.

    Returns:
        Its folder.

    Raises:
        MissingDependency: No Python is new enough, or the packages cannot be installed; no half-made folder is left.
    """
    folder = environment()
    if installed():
        return folder
    python = find_python()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        for command in (
            [str(python), "-m", "venv", str(folder)],
            [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES],
        ):
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode:
                lines = (answer.stderr or answer.stdout).strip().splitlines()
                raise MissingDependency(
                    f"onnx2tf {VERSION} cannot be installed: {lines[-1] if lines else answer.returncode}",
                    f"check the network, then: {INSTALL}",
                )
        atomic.write_text(folder / _DONE, f"{VERSION}\n")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


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
    if not installed():
        raise MissingDependency(f"onnx2tf {VERSION} is not installed (about 600 MB)", INSTALL)
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

    scripts = environment() / "bin"
    with tempfile.TemporaryDirectory(prefix="edgeseg-onnx2tf-") as scratch:
        source = Path(scratch) / "model.onnx"
        onnx.save(model, str(source))
        answer = subprocess.run(
            [str(scripts / "onnx2tf"), "-i", str(source), "-o", str(Path(scratch) / "out"), "-n", "-v", "error"],
            cwd=scratch,
            env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"},
            capture_output=True,
            text=True,
            check=False,
        )
        written = Path(scratch) / "out" / "model_float32.tflite"
        if answer.returncode or not written.is_file():
            lines = [line for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
            reason = lines[-1] if lines else f"exit code {answer.returncode}"
            raise GraphError(f"onnx2tf cannot convert the model: {reason}", "replace the operator that it names")
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
