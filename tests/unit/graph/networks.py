"""Small segmentation graphs for tests of the graph passes and of the ONNX reader."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dim = int | str | None


def network(
    dims: tuple[Dim, Dim, Dim, Dim] = ("n", 3, "h", "w"), *, opset: int = 13, ir_version: int = 7, seed: int = 0
) -> onnx.ModelProto:
    """Convolution, downscaling, and a Resize back whose target is computed from the input's shape at run time."""
    random = np.random.default_rng(seed)
    constants = {
        "weight": random.normal(size=(2, 3, 3, 3)).astype(np.float32),
        "none": np.array([], np.float32),  # opset 11 wants a value even for what is not used
        "axis0": np.array([0], np.int64),
        "axis2": np.array([2], np.int64),
        "axis4": np.array([4], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "weight"], ["features"], strides=[2, 2], pads=[1, 1, 1, 1], name="conv"),
        node("Relu", ["features"], ["active"], name="relu"),
        node("Shape", ["image"], ["shape"], name="shape"),
        node("Slice", ["shape", "axis2", "axis4", "axis0"], ["size"], name="size"),
        node("Shape", ["active"], ["small"], name="small"),
        node("Slice", ["small", "axis0", "axis2", "axis0"], ["batch"], name="batch"),
        node("Concat", ["batch", "size"], ["target"], axis=0, name="target"),
        node(
            "Resize",
            ["active", "none", "none", "target"],
            ["scores"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
            name="resize",
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (dims[0], 2, dims[2], dims[3]))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def run(model: onnx.ModelProto, image: np.ndarray, name: str = "image") -> np.ndarray:
    """The first output, with the runtime's own optimisations off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (output, *_) = session.run(None, {name: image})
    return np.asarray(output)


def noise(height: int, width: int) -> np.ndarray:
    """An image batch [1, 3, height, width], float32 in [-1, 1]."""
    return np.random.default_rng(7).uniform(-1, 1, size=(1, 3, height, width)).astype(np.float32)
