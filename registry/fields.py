"""A contract as a list of fields, for a reader: in MLflow's pages, and beside another one."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from components.contract import Contract, TensorSpec, shape_text


def contract_fields(contract: Contract) -> dict[str, str]:
    """Every field that a contract states, by its dotted name and in words; arrays by their own names."""
    data = contract.model_dump(mode="json", exclude_none=True)
    named = {
        "inputs": {spec.name: _spec(spec) for spec in contract.inputs},
        "outputs": {spec.name: _spec(spec) for spec in contract.outputs},
        "conditioning": {array.name: array.model_dump(exclude={"name"}) for array in contract.conditioning},
    }
    return dict(_flat(data | named, ""))


def _spec(spec: TensorSpec) -> str:
    return f"{spec.dtype} {shape_text(spec.shape)}"


def _flat(data: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value)
