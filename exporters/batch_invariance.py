"""Rewrites without which the bytes of a row would depend on how many rows share its run."""

import onnx_ir as ir


def pool_inner_means(model: ir.Model) -> None:
    """Let a pooling kernel take every mean over the middle axis of three, in place.

    ONNX Runtime's ReduceMean adds up an axis in the middle in another order for one row than for several, also behind
    a Transpose, which its optimiser takes back. A GlobalAveragePool works row by row.
    """
    for node in list(model.graph):
        if node.op_type == "ReduceMean" and _is_inner(node):
            _pool(model.graph, node)


def _is_inner(node: ir.Node) -> bool:
    given, axes = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    if given is None or given.shape is None or axes is None or axes.const_value is None:
        return False
    return len(given.shape) == 3 and axes.const_value.numpy().tolist() in ([1], [-2])


def _pool(graph: ir.Graph, node: ir.Node) -> None:
    made = node.outputs[0]
    # [rows, tokens, width] to [rows, width, tokens], pooled to [rows, width, 1]
    turned = ir.node("Transpose", [node.inputs[0]], attributes={"perm": [0, 2, 1]}, name=f"{made.name}_turned")
    pooled = ir.node("GlobalAveragePool", [turned.outputs[0]], name=f"{made.name}_pooled")
    shape = [0, 1, -1] if node.attributes.get_int("keepdims", 1) else [0, -1]
    target = ir.Value(name=f"{made.name}_shape", const_value=ir.tensor(shape, dtype=ir.DataType.INT64))
    graph.register_initializer(target)
    back = ir.node("Reshape", [pooled.outputs[0], target], name=f"{made.name}_mean")
    result = back.outputs[0]
    result.shape, result.type = made.shape, made.type
    graph.insert_before(node, [turned, pooled, back])
    ir.convenience.replace_all_uses_with(made, result)
    graph.remove(node, safe=True)
