"""Who pointed an alias at a version: one that a start chose carries a mark, until a user chooses."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from components.reference import ComponentRef
from registry.store import every
from registry.version import START_TAG, Version, readable

if TYPE_CHECKING:
    from mlflow import MlflowClient

Point: TypeAlias = Callable[["MlflowClient", ComponentRef, str], None]


def point_for_user(client: "MlflowClient", ref: ComponentRef, alias: str) -> None:
    """Point an alias at a version; no start moves it from now on."""
    # The marks go first: one that outlived a process cut off here would make the user's choice look like a start's.
    _unmark(client, _marked(client, ref.name, alias))
    client.set_registered_model_alias(ref.name, alias, str(ref.version))


def point_for_start(client: "MlflowClient", ref: ComponentRef, alias: str) -> None:
    """Point an alias at a version and mark that; a later start may move it."""
    left = [other for other in _marked(client, ref.name, alias) if other.version != ref.version]
    # The mark comes first, so that the next start finishes what was cut off here.
    client.set_model_version_tag(ref.name, str(ref.version), START_TAG, alias)
    client.set_registered_model_alias(ref.name, alias, str(ref.version))
    _unmark(client, left)


def chosen_by_start(version: Version, alias: str) -> bool:
    """Whether the alias, which points at this version, was put there by a start."""
    return version.tags.get(START_TAG) == alias


def _marked(client: "MlflowClient", name: str, alias: str) -> list[ComponentRef]:
    found = every(client.search_model_versions, f"name = '{name}' and tag.{START_TAG} = '{alias}'")
    return [version.ref for version in readable(found)]


def _unmark(client: "MlflowClient", refs: list[ComponentRef]) -> None:
    for ref in refs:
        client.delete_model_version_tag(ref.name, str(ref.version), START_TAG)
