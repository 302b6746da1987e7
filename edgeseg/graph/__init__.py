"""What is done to an ONNX graph between checkpoint and backend, one pass per file."""
