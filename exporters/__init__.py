"""From a checkpoint to component folders: each network as its own ONNX graph, held against torch."""
