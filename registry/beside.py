"""What is in production of a bundle, and what a component does not fit of it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from components.compatibility import compatible, interchangeable
from components.contract import Contract
from components.reference import DEFAULT_ALIAS, is_component
from registry.store import every
from registry.version import Version, readable

if TYPE_CHECKING:
    from mlflow import MlflowClient


def in_production_of(client: "MlflowClient", bundle: str) -> list[Version]:
    """The versions in production of all components of a bundle, by name; what is not ours is left out, and logged."""
    # `_` stands for any character in the database's LIKE; what it finds too many goes below
    models = every(client.search_registered_models, f"name LIKE '{bundle}.%'")
    at = sorted(
        (model.name, str(model.aliases[DEFAULT_ALIAS]))
        for model in models
        if model.name.split(".")[0] == bundle and DEFAULT_ALIAS in model.aliases and is_component(model.name)
    )
    return list(readable(client.get_model_version(name, version) for name, version in at))


def mismatches(name: str, contract: Contract, live: Iterable[Version]) -> list[str]:
    """All that a contract under a name does not fit of what is live, the version whose place it would take included."""
    found = []
    for other in live:
        own = other.ref.name == name
        said = interchangeable(contract, other.contract) if own else compatible(contract, other.contract)
        found += [f"{other.ref}: {mismatch}" for mismatch in said]
    return found
