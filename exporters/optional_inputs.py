"""Inputs of a graph that may be left out: each has a default in the graph, which a run may override."""

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from components.contract import TensorSpec


def declare_optional(model: ir.Model, specs: Iterable[TensorSpec]) -> None:
    """Give every input of `specs` that is optional zeros to fall back on, in place: 1 along every open dimension.

    In ONNX that is a graph input with an initializer of its name. The network must take zeros for no effect at all,
    and broadcast a dimension of 1 where its other inputs have more, as an addition and a product of matrices do. Call
    it once the graph is optimised: what is known of the defaults must not be folded into it.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    optional = [spec for spec in specs if spec.optional]
    _measure_required_inputs(model.graph, [inputs[spec.name] for spec in optional])
    for spec in optional:
        value = inputs[spec.name]
        zeros = np.zeros([dim if isinstance(dim, int) else 1 for dim in spec.shape], spec.dtype)
        value.const_value = ir.tensor(zeros, name=spec.name)
        # names of their own: ONNX Runtime plans its memory by names, and the default has other sizes than what is fed
        value.shape = ir.Shape([dim if isinstance(dim, int) else f"{spec.name}.{dim}" for dim in spec.shape])
        model.graph.register_initializer(value)
    _forget_shapes(model.graph, {inputs[spec.name] for spec in optional})


def _measure_required_inputs(graph: ir.Graph, optional: list[ir.Value]) -> None:
    """Take sizes from inputs that are always fed: the trace may have read the batch from any that has it."""
    measured: dict[object, tuple[ir.Value, int]] = {}
    for value in graph.inputs:
        if value not in optional and value.shape is not None:
            measured |= {dim: (value, axis) for axis, dim in enumerate(value.shape) if isinstance(dim, ir.SymbolicDim)}
    for value in optional:
        for node in [use.node for use in value.uses() if use.node.op_type == "Shape"]:
            assert value.shape is not None, "the trace knows every input's shape"
            start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(value.shape))
            if end - start == 1 and value.shape[start] in measured:
                source, axis = measured[value.shape[start]]
                node.replace_input_with(0, source)
                node.attributes["start"] = ir.AttrInt64("start", axis)
                node.attributes["end"] = ir.AttrInt64("end", axis + 1)


def _forget_shapes(graph: ir.Graph, optional: set[ir.Value]) -> None:
    """Forget the shapes of what follows from optional inputs alone: the trace took their sizes for those of others."""
    follows: set[ir.Value | None] = set(optional)
    for node in graph:
        varying = [value for value in node.inputs if value is not None and not _is_constant(value, optional)]
        if varying and follows.issuperset(varying):
            follows.update(node.outputs)
            for output in node.outputs:
                output.shape = None


def _is_constant(value: ir.Value, optional: set[ir.Value]) -> bool:
    producer = value.producer()
    made = producer is not None and producer.op_type == "Constant"
    return value not in optional and (made or value.is_initializer())
