"""Builds ONNX graphs of random weights, layer by layer, without torch and in little memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
# what onnxruntime 1.31 reads; the package's own default is newer
_IR_VERSION = 10
# smaller constants stay in the graph itself
_EXTERNAL_BYTES = 1024
# as torch's exporter aligns them, so that they can be mapped into memory
_ALIGNMENT = 4096

Shape = Sequence[int | None]


class GraphBuilder:
    """Adds nodes and weights to a graph; each method returns the name of what it made.

    With `data`, the weights go straight to that file and are never all in memory.
    """

    def __init__(self, data: Path | None = None) -> None:
        self._rng = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[onnx.TensorProto] = []
        self._data = data
        self._written = 0

    def model(self, name: str, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> onnx.ModelProto:
        """The model of all that was added; inputs and outputs are float32, None stands for an open dimension."""
        made, given = (
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in values.items()]
            for values in (outputs, inputs)
        )
        graph = helper.make_graph(self._nodes, name, given, made, self._arrays)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def node(self, kind: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """One node of one output."""
        name = f"made_{len(self._nodes)}" if output is None else output
        self._nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def halves(self, name: str) -> tuple[str, str]:
        """The two halves of the last axis."""
        names = f"made_{len(self._nodes)}", f"made_{len(self._nodes)}_too"
        self._nodes.append(helper.make_node("Split", [name], names, axis=-1, num_outputs=2))
        return names

    def silu(self, name: str) -> str:
        """The name times its sigmoid, as two nodes."""
        return self.node("Mul", name, self.node("Sigmoid", name))

    def conv(
        self, name: str, channels: int, filters: int, *, side: int = 3, stride: int = 1, bias: bool = False
    ) -> str:
        """A square convolution that keeps the picture's size, or divides it by `stride`."""
        weight = self.weight(filters, channels, side, side, fan_in=side * side * channels)
        inputs = [name, weight, self.filled(0.0, filters)] if bias else [name, weight]
        return self.node("Conv", *inputs, pads=[side // 2] * 4, strides=[stride, stride])

    def matmul(self, name: str, width: int, wide: int, *, bias: bool = False) -> str:
        """A product with a matrix [width, wide] from the right."""
        product = self.node("MatMul", name, self.weight(width, wide, fan_in=width))
        return self.node("Add", product, self.filled(0.0, wide)) if bias else product

    def weight(self, *shape: int, fan_in: int) -> str:
        """Random numbers of a size with which values neither grow nor fade from layer to layer."""
        return self.constant(self._rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(fan_in)))

    def filled(self, value: float, *shape: int) -> str:
        """The same number everywhere."""
        return self.constant(np.full(shape, value, np.float32))

    def shape(self, *sizes: int) -> str:
        """What Reshape and its like take."""
        return self.constant(np.array(sizes, np.int64))

    def constant(self, array: npt.NDArray[Any]) -> str:
        """An array that the graph holds."""
        name = f"constant_{len(self._arrays)}"
        if self._data is None or array.nbytes < _EXTERNAL_BYTES:
            self._arrays.append(numpy_helper.from_array(array, name))
        else:
            self._arrays.append(self._stored(array, name, self._data))
        return name

    def _stored(self, array: npt.NDArray[Any], name: str, data: Path) -> onnx.TensorProto:
        offset = -(-self._written // _ALIGNMENT) * _ALIGNMENT
        with data.open("ab") as file:
            file.write(bytes(offset - self._written))
            file.write(array.data)
        self._written = offset + array.nbytes
        tensor = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in {"location": data.name, "offset": offset, "length": array.nbytes}.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor
