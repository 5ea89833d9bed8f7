"""Group norms of large pictures in an exported graph, against torch in double precision."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
import torch

from exporters.wide_norms import split_norms

GROUPS, CHANNELS, EPSILON = 2, 8, 1e-6


def norm() -> ir.Model:
    """A group norm as torch exports it, without its weights."""
    pictures = ir.val("pictures", ir.DataType.FLOAT, ["batch", CHANNELS, "height", "width"])
    constants: dict[str, npt.NDArray[Any]] = {
        "grouped": np.array([0, GROUPS, -1], np.int64),
        "ones": np.ones(GROUPS, np.float32),
        "zeros": np.zeros(GROUPS, np.float32),
    }
    held = [ir.Value(name=name, const_value=ir.tensor(array, name=name)) for name, array in constants.items()]
    grouped = ir.node("Reshape", [pictures, held[0]])
    normed = ir.node("InstanceNormalization", [grouped.outputs[0], *held[1:]], attributes={"epsilon": EPSILON})
    shape = ir.node("Shape", [pictures])
    back = ir.node("Reshape", [normed.outputs[0], shape.outputs[0]])
    back.outputs[0].name = "normed"
    back.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    nodes = [grouped, normed, shape, back]
    graph = ir.Graph([pictures], [back.outputs[0]], nodes=nodes, initializers=held, opset_imports={"": 20})
    return ir.Model(graph, ir_version=10)


def run(model: ir.Model, pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    normed: npt.NDArray[np.float32] = session.run(["normed"], {"pictures": pictures})[0]
    return normed


def test_a_norm_of_a_large_picture_is_as_exact_as_one_of_a_small() -> None:
    model, plain = norm(), norm()
    split_norms(model)
    kinds = {node.op_type for node in model.graph}
    assert "InstanceNormalization" not in kinds
    assert set(model.graph.initializers) & {"ones", "zeros"} == set()
    for rows, height, width in ((3, 6, 5), (1, 1024, 768)):
        drawn = np.random.default_rng(0).standard_normal((rows, CHANNELS, height, width), np.float32) * 2 + 1.5
        exact = torch.nn.functional.group_norm(torch.from_numpy(drawn).double(), GROUPS, eps=EPSILON).numpy()
        np.testing.assert_allclose(run(model, drawn), exact, atol=4e-6)
        apart = np.concatenate([run(model, drawn[row : row + 1]) for row in range(rows)])
        np.testing.assert_array_equal(run(model, drawn), apart)
    assert np.abs(run(plain, drawn) - exact).max() > 4e-5, "it need not be split"


def test_what_is_no_group_norm_of_pictures_stays() -> None:
    model = norm()
    model.graph.initializers["ones"].const_value = ir.tensor(np.full(GROUPS, 2, np.float32), name="ones")
    before = [node.op_type for node in model.graph]
    split_norms(model)
    assert [node.op_type for node in model.graph] == before
