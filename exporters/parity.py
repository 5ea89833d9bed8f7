"""How exact an exported graph is: ONNX Runtime against torch, and the golden cases that test any copy of it later."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from torch import Tensor

from components.contract import Kind
from components.manifest import GoldenCase, Parity
from exporters.errors import ExportError
from exporters.network import Network
from runtime.session import ORT_ERRORS

LIMIT = 1e-4
# Other processors add up in other orders; a damaged or wrongly tuned copy is off by far more.
GOLDEN_TOLERANCE = 5e-4


class Evaluation(NamedTuple):
    """Inputs, and what torch makes of them."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def evaluate(network: Network) -> Evaluation:
    """Run torch at a batch and sizes that the graph was not exported at."""
    inputs = network.arrays(network.trials.compared, seed=1)
    return Evaluation(inputs, network.outputs(inputs))


def measure(kind: Kind, by_torch: Evaluation, graph: Path) -> Parity:
    """Compare a saved graph with torch.

    Raises:
        ExportError: ONNX Runtime cannot run it, or the largest absolute error of an output is over 1e-4 or no number.
    """
    inputs, expected = by_torch
    try:
        session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        computed = session.run(list(expected), {name: array.numpy() for name, array in inputs.items()})
    except ORT_ERRORS as fault:
        lines = str(fault).splitlines()
        raise ExportError(f"{kind}: ONNX Runtime cannot run it: {lines[0] if lines else ''}") from None
    errors = [
        np.abs(array - torch_array.numpy()).max()
        for array, torch_array in zip(computed, expected.values(), strict=True)
    ]
    # np.max, because Python's would drop a NaN that is not the first
    error = float(np.max(errors))
    if not error <= LIMIT:
        raise ExportError(f"{kind}: is off by {error:g} from torch, at most {LIMIT:g} is allowed")
    return Parity(max_absolute_error=error, shapes={name: tuple(array.shape) for name, array in inputs.items()})


def write_golden_cases(network: Network, folder: Path) -> tuple[GoldenCase, ...]:
    """Write inputs and torch's outputs of four cases into `folder`; the first leaves out what may be left out."""
    cases = []
    optional = {spec.name for spec in network.contract.inputs if spec.optional}
    for number, sizes in enumerate(network.trials.golden):
        inputs = network.arrays(sizes, seed=2 + number)
        left_out = optional if number == 0 else set()
        for name in left_out:
            inputs[name].zero_()
        arrays = {f"input.{name}": array.numpy() for name, array in inputs.items() if name not in left_out}
        arrays |= {f"output.{name}": array.numpy() for name, array in network.outputs(inputs).items()}
        file = f"golden-{number}.npz"
        np.savez_compressed(folder / file, **arrays)  # type: ignore[arg-type] # its stub takes the names for flags
        cases.append(GoldenCase(file=file, tolerance=GOLDEN_TOLERANCE))
    return tuple(cases)
