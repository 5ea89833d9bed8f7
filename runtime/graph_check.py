"""Whether a graph is what its contract says, by name, dtype and fixed dimensions."""

from collections.abc import Iterable, Sequence

import onnxruntime as ort

from components.contract import Contract, TensorSpec

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


def graph_differences(session: ort.InferenceSession, contract: Contract) -> list[str]:
    """Every difference between a session's graph and the contract, in words; an empty list means that it keeps it."""
    # ONNX Runtime lists apart the inputs that have a default
    required = _differences("input", session.get_inputs(), [spec for spec in contract.inputs if not spec.optional])
    optional = [spec for spec in contract.inputs if spec.optional]
    inputs = required + _differences("optional input", session.get_overridable_initializers(), optional)
    return inputs + _differences("output", session.get_outputs(), contract.outputs)


def _differences(role: str, nodes: Iterable[ort.NodeArg], specs: Sequence[TensorSpec]) -> list[str]:
    in_graph = {node.name: node for node in nodes}
    in_contract = {spec.name: spec for spec in specs}
    found = [f"{role} {name}: the contract has it, the graph has not" for name in in_contract.keys() - in_graph.keys()]
    found += [f"{role} {name}: the graph has it, the contract has not" for name in in_graph.keys() - in_contract.keys()]
    for name in in_graph.keys() & in_contract.keys():
        found += _tensor_differences(f"{role} {name}", in_graph[name], in_contract[name])
    return sorted(found)


def _tensor_differences(where: str, node: ort.NodeArg, spec: TensorSpec) -> list[str]:
    dtype = _DTYPES.get(node.type, node.type)
    found = [] if dtype == spec.dtype else [f"{where}: the contract says {spec.dtype}, the graph {dtype}"]
    if len(node.shape) != len(spec.shape):
        return [*found, f"{where}: the contract has {len(spec.shape)} dimensions, the graph {len(node.shape)}"]
    # a graph that leaves open what the contract fixes is no breach: it takes more than was promised
    return found + [
        f"{where} dimension {axis}: the contract says {promised}, the graph {actual}"
        for axis, (actual, promised) in enumerate(zip(node.shape, spec.shape, strict=True))
        if isinstance(actual, int) and actual != promised
    ]
