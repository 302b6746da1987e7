"""Kinds of ONNX operators that several parts have to agree on."""

PICKERS = (
    "Reshape",
    "Transpose",
    "Split",
    "Slice",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Concat",
    "DepthToSpace",
)
"""They put elements elsewhere, or leave some out, and compute nothing."""

MOVERS = (*PICKERS, "MaxPool", "Resize")
"""They pass integers through, or mix them with weights that sum to 1: no scale of their own is placed behind them, and the
TFLite writer lowers them on the integers as they come."""
