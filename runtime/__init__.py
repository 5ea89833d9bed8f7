"""ONNX Runtime: open a component's graph as a session, check it against its contract, warm it up, run it."""
