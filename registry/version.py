"""One version of a component as MLflow keeps it: a model version whose tags hold the digest and the contract."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.contract import Contract
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.record import Record
from components.reference import ComponentRef
from registry.errors import NoSuchVersionError, RegistryError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_log = logging.getLogger(__name__)

MAX_TAG_CHARACTERS = 100_000  # MLflow's limit of one value
MAX_KEY_CHARACTERS = 250
START_TAG = "promoted_by_start"  # its value is the alias
GATE_PREFIX = "gate."  # of the tags that hold the gate's verdict
FIT_TAG = "fit.production"  # what it does not fit of what was in production when it was published


class Version(Record):
    """A published version: its pin, what it is, and who points at it."""

    ref: ComponentRef
    contract: Contract
    weights: str
    aliases: tuple[str, ...]
    published: datetime
    tags: dict[str, str]


def tags_of(folder: ComponentFolder, extra: Mapping[str, str]) -> dict[str, str]:
    """The tags of a version: what makes it a component, its figures for the reader of MLflow's pages, and `extra`.

    Raises:
        RegistryError: an extra tag has the name of one of ours, or a tag is longer than MLflow takes.
    """
    manifest = folder.manifest
    contract = manifest.contract
    ours = {
        "sha256": folder.digest,
        "contract": contract.model_dump_json(),
        "kind": str(contract.kind),
        "weights": manifest.weights,
        "parity.max_absolute_error": f"{manifest.parity.max_absolute_error:.3g}",
        "origin.source": manifest.origin.source,
    }
    if contract.latent_space is not None:
        ours["latent_space"] = contract.latent_space.id
    if manifest.origin.licence is not None:
        ours["origin.licence"] = manifest.origin.licence
    reserved = ours.keys() | {START_TAG, FIT_TAG}
    if taken := sorted(key for key in extra if key in reserved or key.startswith(GATE_PREFIX)):
        raise RegistryError(f"tags: {', '.join(taken)} is set by the registry itself")
    tags = ours | dict(extra)
    for key, value in tags.items():
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS or len(value) > MAX_TAG_CHARACTERS:
            raise RegistryError(
                f"tag {key[:60]!r}: {len(key)} and {len(value)} characters, "
                f"at most {MAX_KEY_CHARACTERS} in a name and {MAX_TAG_CHARACTERS} in a value"
            )
    return tags


def readable(found: "Iterable[ModelVersion]") -> Iterator[Version]:
    """Those that we published; others are logged, as one stray entry must not hide the rest."""
    for one in found:
        try:
            yield read_version(one)
        except (RegistryError, ComponentError) as error:
            _log.warning("%s", error)


def read_version(found: "ModelVersion") -> Version:
    """Read what MLflow answers, which anyone with access to it may have written.

    Raises:
        ComponentError: its name is no component's.
        NoSuchVersionError: it is not a component that we published.
    """
    tags = {str(key): str(value) for key, value in found.tags.items()}
    missing = next((key for key in ("sha256", "contract", "weights") if key not in tags), None)
    if missing is not None:
        raise NoSuchVersionError.foreign(found.name, int(found.version), missing)
    try:
        return Version(
            ref=ComponentRef(name=found.name, version=int(found.version), sha256=tags["sha256"]),
            contract=Contract.model_validate_json(tags["contract"], strict=True),
            weights=tags["weights"],
            aliases=tuple(sorted(found.aliases)),
            published=datetime.fromtimestamp(found.creation_timestamp / 1000, tz=UTC),
            tags={key: value for key, value in tags.items() if key not in ("sha256", "contract")},
        )
    except (ValidationError, ComponentError):
        raise NoSuchVersionError.foreign(found.name, int(found.version), None) from None
