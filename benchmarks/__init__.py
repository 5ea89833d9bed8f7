"""Measures the served path and the chain in one process beside the bare ONNX sessions, all in one run."""
