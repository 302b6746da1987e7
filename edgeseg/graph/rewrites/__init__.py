"""Exact rewrites of ONNX graphs, one a file; see `edgeseg.graph.rewriting`."""
