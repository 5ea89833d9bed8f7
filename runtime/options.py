"""ONNX Runtime's options of a session: of an exported graph, of a compiled copy, and of one that is being compiled."""

from pathlib import Path

import onnxruntime as ort

from runtime.compiled import COMPILED_GRAPH, COMPILED_WEIGHTS, EXTERNAL_BYTES
from runtime.settings import SessionSettings, thread_count

_SEVERITY_ERROR = 3


def exported_options(settings: SessionSettings) -> ort.SessionOptions:
    """The options with which ONNX Runtime optimises a graph as it opens it."""
    options = _options(settings)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return options


def compiled_options(settings: SessionSettings) -> ort.SessionOptions:
    """The options that open a graph as it was saved: it is optimised, and its weights are prepacked, already."""
    options = _options(settings)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def compiling_options(settings: SessionSettings, into: Path) -> ort.SessionOptions:
    """Those of `exported_options`, which moreover save to the folder `into` what came of the graph."""
    options = exported_options(settings)
    options.optimized_model_filepath = str(into / COMPILED_GRAPH)
    for name, value in {
        "session.optimized_model_external_initializers_file_name": COMPILED_WEIGHTS,
        "session.optimized_model_external_initializers_min_size_in_bytes": str(EXTERNAL_BYTES),
        "session.save_external_prepacked_constant_initializers": "1",
    }.items():
        options.add_session_config_entry(name, value)
    return options


def _options(settings: SessionSettings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count(settings)
    options.inter_op_num_threads = 1
    options.log_severity_level = _SEVERITY_ERROR
    # Threads that spin between operators take the cores from the other replicas of the node; on two cores a session
    # alone is faster without, too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
