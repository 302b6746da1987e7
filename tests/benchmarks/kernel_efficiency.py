"""What share of this processor's matrix products the runtimes' kernels reach, kind by kind: a check on a forecast's efficiencies.

    OPENBLAS_NUM_THREADS=1 python tests/benchmarks/kernel_efficiency.py [ARTIFACT…]

The forecast takes dense and 1x1 convolutions and matrix products for equally good, and depthwise and transposed ones for a
share of that. Each kind is a network of one layer between two small ones, run with one thread in turn with a large float32 matrix product of numpy's, by process time, so that other
work on the machine hits both alike. The share is the median of the paired ratios of multiply-accumulates a second.

Folders of fp32 artifacts are instead run whole, against a forecast by the same roofline for this processor: the matrix product as its
peak, of which convolutions reach `POINTWISE` as measured without arguments, and a cache that holds everything.
"""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeseg import backends
from edgeseg.core import manifest
from edgeseg.core.spec import ModelSpec
from edgeseg.forecast import roofline
from edgeseg.forecast.boards import Board
from edgeseg.forecast.roofline import FITTED

HEIGHT, WIDTH, CHANNELS, ROUNDS, SLICE_S = 72, 128, 64, 15, 0.1
KINDS = {
    "pointwise": ("Conv", (CHANNELS, CHANNELS, 1, 1), {}),
    "dense": ("Conv", (CHANNELS, CHANNELS, 3, 3), {"pads": [1, 1, 1, 1]}),
    "depthwise": ("Conv", (CHANNELS, 1, 3, 3), {"pads": [1, 1, 1, 1], "group": CHANNELS}),
    "transposed": ("ConvTranspose", (CHANNELS, CHANNELS, 2, 2), {"strides": [2, 2]}),
}


def network(kind: str) -> tuple[onnx.ModelProto, ModelSpec]:
    """The layer between two strided 1x1 ones that bring 3 channels to 64 and back: files of all runtimes have 3 and 2."""
    op, shape, attributes = KINDS[kind]
    random = np.random.default_rng(0)
    factor = 2 if op == "ConvTranspose" else 1
    weights = {
        "a": random.normal(size=(CHANNELS, 3, 1, 1)), "w": random.normal(size=shape) / 20,
        "b": random.normal(size=(2, CHANNELS, 1, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"]),
        helper.make_node("Relu", ["p"], ["p+"]),  # linear layers would be made one
        helper.make_node(op, ["p+", "w"], ["q"], **attributes),
        helper.make_node("Relu", ["q"], ["q+"]),
        helper.make_node("Conv", ["q+", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, HEIGHT * factor, WIDTH * factor])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, ModelSpec("m", WIDTH, HEIGHT, "x", "y")


def rate(run: Callable[[], object], macs: int) -> float:
    """Multiply-accumulates in a second of process time."""
    count, started = 0, time.process_time()
    while (spent := time.process_time() - started) < SLICE_S or not count:
        run()
        count += 1
    return count * macs / spent


POINTWISE, GHZ = 0.67, 3.0


def whole(folder: Path, product: Callable[[], object]) -> None:
    """Print the process time of an artifact's run over its forecast here."""
    artifact = manifest.read(folder)
    document = artifact.manifest
    backend = backends.load(document.backend)
    work = backend.work(artifact.model_file, document.spec, document.runtime_options)
    session = backend.load(artifact.model_file, document.spec, threads=1, options=document.runtime_options)
    run = functools.partial(
        session.run, {document.spec.input_name: np.zeros(document.spec.input_shape, document.spec.input_dtype)}
    )
    run()
    ratios = []
    for _ in range(2 * ROUNDS):
        peak = rate(product, 768**3)
        board = Board("this", "this", "", False, 1, GHZ, {"f32": peak / GHZ / 1e9}, 1 << 30, 20e9, ())
        costs = roofline.costs(work, board, 1, "f32", "f32", replace(FITTED, out_of_order=POINTWISE))
        ratios.append(1 / rate(run, 1) / sum(cost.seconds for cost in costs))
    low, high = np.quantile(ratios, [0.1, 0.9])
    print(f"{artifact.name}: x{statistics.median(ratios):.2f} [{low:.2f} … {high:.2f}] of its forecast here")


def main() -> None:
    left, right = (np.random.default_rng(0).normal(size=(768, 768)).astype(np.float32) for _ in range(2))

    def product() -> object:
        return left @ right

    if sys.argv[1:]:
        for folder in sys.argv[1:]:
            whole(Path(folder), product)
        return
    for name in ("onnx", "tflite", "openvino"):
        backend = backends.load(name)
        for kind in KINDS:
            model, spec = network(kind)
            with tempfile.TemporaryDirectory() as folder:
                done = backend.convert(model, spec, "fp32", Path(folder))
                file = Path(folder) / done.files[0]
                work = backend.work(file, done.spec, done.runtime_options)
                session = backend.load(file, done.spec, threads=1, options=done.runtime_options)
                feeds = {done.spec.input_name: np.zeros(done.spec.input_shape, np.float32)}
                macs = sum(one.macs for one in work)
                own = sum(one.macs for one in work if one.kernel == kind and one.weights >= CHANNELS * 9) / macs
                run = functools.partial(session.run, feeds)
                run()
                shares = [rate(run, macs) / rate(product, 768**3) for _ in range(ROUNDS)]
                session.close()
            print(
                f"{name:9} {kind:10} {statistics.median(shares):.2f} of the matrix product "
                f"[{min(shares):.2f} … {max(shares):.2f}]; {100 * own:.0f} % of the multiplications are of that layer"
            )
    print(f"in the forecast: depthwise {FITTED.depthwise:.2f} of the others")


if __name__ == "__main__":
    main()
