"""A rewrite without which group norms of large pictures would be inexact."""

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


def split_norms(model: ir.Model) -> None:
    """Take mean and variance of every group norm of pictures by rows of pixels first, then over the rows, in place.

    ONNX Runtime's InstanceNormalization adds up a whole group one number after the other: over the 4 million of a
    picture of 1024x1024 the result is off by 5e-4 of its deviation, and torch's by 7e-7. Chan, Golub and LeVeque 1983,
    "Algorithms for Computing the Sample Variance".
    """
    for node in list(model.graph):
        if node.op_type == "InstanceNormalization" and _is_group_norm(node):
            _split(model.graph, node)
    # the constants of what is gone
    RemoveUnusedNodesPass()(model)


def _is_group_norm(node: ir.Node) -> bool:
    """Whether it is what torch makes of one of pictures: [batch, groups, rest] of them, scaled and shifted later."""
    given, scale, shift = node.inputs
    assert given is not None, "the graph is whole"
    reshape = given.producer()
    if reshape is None or reshape.op_type != "Reshape":
        return False
    pictures = reshape.inputs[0]
    if pictures is None or pictures.shape is None or len(pictures.shape) != 4:
        return False
    return _is_constant(scale, 1) and _is_constant(shift, 0)


def _is_constant(value: ir.Value | None, number: float) -> bool:
    if value is None or value.const_value is None:
        return False
    return bool((value.const_value.numpy() == number).all())


def _split(graph: ir.Graph, node: ir.Node) -> None:
    grouped, made = node.inputs[0], node.outputs[0]
    assert grouped is not None, "was looked at"
    reshape = grouped.producer()
    assert reshape is not None, "was looked at"
    pictures, groups = reshape.inputs
    new: list[ir.Node] = []

    def value(kind: str, *inputs: ir.Value | None) -> ir.Value:
        new.append(ir.node(kind, list(inputs), name=f"{made.name}_{kind}_{len(new)}"))
        return new[-1].outputs[0]

    def constant(name: str, array: list[int] | float, dtype: ir.DataType) -> ir.Value:
        held = ir.Value(name=f"{made.name}_{name}", const_value=ir.tensor(array, dtype=dtype))
        graph.register_initializer(held)
        return held

    columns, rest = (constant(name, [axis], ir.DataType.INT64) for name, axis in (("columns", 3), ("rest", 2)))
    epsilon = constant("epsilon", node.attributes.get_float("epsilon", 1e-5), ir.DataType.FLOAT)

    def mean(of: ir.Value | None) -> ir.Value:
        return value("ReduceMean", value("Reshape", value("ReduceMean", of, columns), groups), rest)

    centred = value("Sub", grouped, mean(pictures))
    squares = value("Reshape", value("Mul", centred, centred), value("Shape", pictures))
    result = value("Div", centred, value("Sqrt", value("Add", mean(squares), epsilon)))
    result.shape, result.type = made.shape, made.type
    graph.insert_before(node, new)
    ir.convenience.replace_all_uses_with(made, result)
    graph.remove(node, safe=True)
