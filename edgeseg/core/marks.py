"""Words that a rewrite leaves in the `doc_string` of an ONNX node, for what comes after it."""

INTEGER = "integer"
"""This convolution is going to run in integers."""

UNROUNDED = "unrounded"
"""Between integer operators this node reads what was not rounded yet, and its own result is rounded."""
