"""Opening and running a TFLite file, with LiteRT or the older tflite-runtime. Runs on Python 3.9 with numpy."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.backend import Executed, Session, Work, convolution
from edgeseg.core.errors import ArtifactError, MissingDependency
from edgeseg.core.spec import ModelSpec

RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
"""Modules with an `Interpreter`, newest first."""

SIGNATURE = "serving_default"


def runtime() -> Any:
    """The module of the interpreter that is installed.

    Raises:
        MissingDependency: None is.
    """
    reasons = []
    for name in RUNTIMES:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reasons.append(f"{name.split('.')[0]}: {error}")
    raise MissingDependency(
        f"running a TFLite file needs LiteRT ({'; '.join(reasons)})", "pip install 'edgeseg[tflite]'"
    )


def interpreter(model: Path | bytes, threads: int = 0, *, delegate: bool = True) -> Any:
    """An interpreter with its tensors allocated.

    Args:
        model: The file, or its bytes.
        threads: CPU threads; 0 leaves it to the runtime.
        delegate: Use XNNPACK, as the runtime does by itself; without it the built-in kernels run.

    Raises:
        ArtifactError: The runtime refuses the file.
    """
    module = runtime()
    arguments: dict[str, Any] = {"num_threads": threads or None}
    if isinstance(model, bytes):
        arguments["model_content"] = model
    else:
        arguments["model_path"] = str(model)
    if not delegate:
        arguments["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        with _quiet():
            found = module.Interpreter(**arguments)
            found.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        name = model.name if isinstance(model, Path) else "the file"
        raise ArtifactError(
            f"{module.__name__.split('.')[0]} cannot open {name}: {error}", "export it again with this edgeseg"
        ) from error
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the runtime's own chatter ("Created TensorFlow Lite XNNPACK delegate") off stderr; errors are raised anyway.

    It comes from C++ and has no switch, so the file descriptor itself is turned away meanwhile.
    """
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stderr.flush()
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class TfliteSession(Session):
    """A loaded TFLite file; tensors are found by the names of its signature, else by their own."""

    def __init__(self, model: Path | bytes, threads: int = 0, *, delegate: bool = True) -> None:
        self._interpreter = interpreter(model, threads, delegate=delegate)
        signatures = self._interpreter.get_signature_list()
        if signatures:
            key = SIGNATURE if SIGNATURE in signatures else next(iter(signatures))
            runner = self._interpreter.get_signature_runner(key)
            self._inputs: dict[str, Any] = dict(runner.get_input_details())
            self._outputs: dict[str, Any] = dict(runner.get_output_details())
        else:
            self._inputs = {detail["name"]: detail for detail in self._interpreter.get_input_details()}
            self._outputs = {detail["name"]: detail for detail in self._interpreter.get_output_details()}

    @property
    def inputs(self) -> dict[str, Any]:
        """Input name to the runtime's details (`shape`, `dtype`, …)."""
        return self._inputs

    @property
    def outputs(self) -> dict[str, Any]:
        """Output name to the runtime's details."""
        return self._outputs

    def feed(self, feeds: Mapping[str, Array]) -> None:
        """Copy the inputs to where the interpreter reads them.

        Args:
            feeds: Input name to array, in the file's shapes and types.

        Raises:
            ArtifactError: An input is missing, unknown or of another shape.
        """
        if set(feeds) != set(self._inputs):
            raise ArtifactError(
                f"the file has the inputs {', '.join(sorted(self._inputs))}; given were {', '.join(sorted(feeds))}",
                "the manifest's spec names the inputs; export it again if they differ",
            )
        for name, array in feeds.items():
            detail = self._inputs[name]
            shape, dtype = tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"])
            if array.shape != shape or array.dtype != dtype:
                raise ArtifactError(
                    f"input {name!r} is {dtype.name} {shape} in the file; given was {array.dtype.name} {array.shape}",
                    "the manifest's spec says the layout; export it again if it differs",
                )
            self._interpreter.set_tensor(detail["index"], np.ascontiguousarray(array).reshape(array.shape))

    def execute(self) -> None:
        """Infer once.

        Raises:
            ArtifactError: The runtime gives up.
        """
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ArtifactError(f"the file cannot be run: {error}", "export it again with this edgeseg") from error

    def fetch(self) -> dict[str, Array]:
        """Copies of the outputs."""
        return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}

    def close(self) -> None:
        """Give back the interpreter."""
        self._interpreter = None


def load(path: Path, spec: ModelSpec, *, threads: int, options: Mapping[str, str]) -> TfliteSession:
    """Open a file; the option ``delegate=none`` runs it without XNNPACK.

    Raises:
        ArtifactError: The file is damaged, or lacks an input or output of the spec.
    """
    session = TfliteSession(path, threads, delegate=options.get("delegate", "xnnpack") != "none")
    for kind, wanted, found in (
        ("input", [spec.input_name, *(state.input_name for state in spec.states)], session.inputs),
        ("output", [spec.output_name, *(state.output_name for state in spec.states)], session.outputs),
    ):
        for name in wanted:
            if name not in found:
                raise ArtifactError(
                    f"{path.name} has no {kind} {name!r}; it has {', '.join(sorted(found))}",
                    "the spec is of another model: export it again",
                )
    return session


_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL")
_FREE = ("DELEGATE", "EXPAND_DIMS", "RESHAPE", "SHAPE", "SQUEEZE")


def executed_macs(path: Path) -> Executed:
    """Multiply-accumulates by the type of what is multiplied: LiteRT has kernels for the types in the file, no others."""
    done = work(path)
    return Executed(sum(one.macs for one in done), sum(one.macs for one in done if one.integer))


def work(path: Path) -> list[Work]:
    """The operators of a file; weights in half precision are unpacked once, when it is loaded."""
    found = interpreter(path, 1, delegate=False)  # with XNNPACK the list is one delegate node beside the operators
    tensors = {detail["index"]: detail for detail in found.get_tensor_details()}
    done = []
    for op in found._get_ops_details():
        kind = op["op_name"]
        given = [tensors[index] for index in op["inputs"] if index >= 0]
        made = [tensors[index] for index in op["outputs"]]
        if kind in _FREE or not made or (kind == "DEQUANTIZE" and np.dtype(given[0]["dtype"]) == np.float16):
            continue
        done.append(_product(kind, given, made) if kind in _PRODUCTS else _mover(given, made))
    return done


def _product(kind: str, given: list[Any], made: list[Any]) -> Work:
    result, weight, size = _shape(made[0]), _shape(given[1]), _size(given[1])
    data = given[2] if kind == "TRANSPOSE_CONV" else given[0]
    source = _shape(data)
    weights, reads = size, _size(data)
    if kind == "CONV_2D":
        kernel = convolution(source[3] // weight[3], source[3], weight[1:3])
        macs = size * int(np.prod(result[1:3]))
    elif kind == "DEPTHWISE_CONV_2D":
        kernel, macs = "depthwise", size * int(np.prod(result[1:3]))
    elif kind == "TRANSPOSE_CONV":
        kernel, macs = "transposed", size * int(np.prod(source[1:3]))
    else:
        kernel, macs = "matrix", int(np.prod(result)) * source[-1]
        if kind == "BATCH_MATMUL":
            weights, reads = 0, reads + size
    return Work(kernel, macs, weights, reads, int(np.prod(result)), np.dtype(data["dtype"]).itemsize == 1)


def _mover(given: list[Any], made: list[Any]) -> Work:
    reads = sum(_size(one) for one in given if len(_shape(one)) > 1)
    return Work("other", 0, 0, reads, sum(map(_size, made)), np.dtype(made[0]["dtype"]).itemsize == 1)


def _shape(detail: Any) -> list[int]:
    return [int(one) for one in detail["shape"]]


def _size(detail: Any) -> int:
    return int(np.prod(_shape(detail)))
