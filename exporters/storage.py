"""How weights are stored: in float16 or float32; they are always computed in float32."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from torch import nn

Weights = Literal["float16", "float32"]
GRAPH_NAME = "model.onnx"
DATA_NAME = "model.onnx.data"

# smaller constants stay in the graph itself
_EXTERNAL_BYTES = 1024


def round_weights(module: nn.Module, weights: Weights) -> None:
    """Give the module, in place, the values that will be stored, so that torch and the export hold the same ones."""
    if weights == "float16":
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.data.copy_(tensor.data.half())


def forget_weights(module: nn.Module) -> None:
    """Give the memory of a module's weights back, in place; its tensors are empty ones of their shapes then.

    It is given back whoever else holds them: torch's tracer keeps nodes, and with them weights, of all that it traced.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        storage = tensor.untyped_storage()
        # what is mapped from a file is not, and takes no memory that others need
        if storage.resizable():
            storage.resize_(0)
    module.to("meta")


def store_halves(model: ir.Model) -> None:
    """Store every float32 weight that float16 holds exactly as such, in place, with a cast back to float32 behind it.

    ONNX Runtime folds the casts when it opens the graph. What the export itself computed and float16 would round (a
    product of weights, say) stays float32.
    """
    for value in list(model.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < _EXTERNAL_BYTES:
            continue
        if value.is_graph_input():
            # the default of an optional input, which a run may override
            continue
        full = tensor.numpy()
        half = full.astype(np.float16)
        if np.array_equal(half.astype(np.float32), full):
            _store_half(model.graph, value, half)


def save(model: ir.Model, folder: Path) -> None:
    """Write the graph and, beside it, the file of its weights."""
    ir.save(model, folder / GRAPH_NAME, external_data=DATA_NAME, size_threshold_bytes=_EXTERNAL_BYTES)


def _store_half(graph: ir.Graph, value: ir.Value, half: npt.NDArray[np.float16]) -> None:
    name = f"{value.name}_float16"
    stored = ir.Value(name=name, const_value=ir.tensor(half, name=name))
    cast = ir.node("Cast", [stored], attributes={"to": ir.DataType.FLOAT}, name=f"{value.name}_cast")
    widened = cast.outputs[0]
    widened.shape, widened.dtype = value.shape, ir.DataType.FLOAT
    ir.convenience.replace_all_uses_with(value, widened)
    del graph.initializers[value.name or ""]
    graph.register_initializer(stored)
    graph.insert_before(graph[0], cast)
