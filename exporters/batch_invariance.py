"""Rewrites without which the bytes of a row would depend on how many rows share its run."""

import numpy as np
import onnx_ir as ir


def move_inner_means(model: ir.Model) -> None:
    """Let every mean over the middle axis of three run over the last one, in place.

    Over an axis in the middle, ONNX Runtime adds up in another order for one row than for several; over the last axis
    each sum is its own.
    """
    for node in list(model.graph):
        if node.op_type == "ReduceMean" and _is_inner(node):
            _move(model.graph, node)


def _is_inner(node: ir.Node) -> bool:
    shape, axes = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    if shape is None or shape.shape is None or axes is None or axes.const_value is None:
        return False
    return len(shape.shape) == 3 and axes.const_value.numpy().tolist() in ([1], [-2])


def _move(graph: ir.Graph, node: ir.Node) -> None:
    given, made = node.inputs[0], node.outputs[0]
    keeps = node.attributes.get_int("keepdims", 1)
    last = ir.Value(name=f"{made.name}_last_axis", const_value=ir.tensor(np.array([-1]), name=f"{made.name}_last_axis"))
    graph.register_initializer(last)
    turned = ir.node("Transpose", [given], attributes={"perm": [0, 2, 1]}, name=f"{made.name}_turned")
    mean = ir.node("ReduceMean", [turned.outputs[0], last], attributes={"keepdims": keeps}, name=f"{made.name}_mean")
    added = [turned, mean]
    if keeps:
        added.append(
            ir.node("Transpose", [mean.outputs[0]], attributes={"perm": [0, 2, 1]}, name=f"{made.name}_turned_back")
        )
    result = added[-1].outputs[0]
    result.shape, result.type = made.shape, made.type
    graph.insert_before(node, added)
    ir.convenience.replace_all_uses_with(made, result)
    graph.remove(node, safe=True)
