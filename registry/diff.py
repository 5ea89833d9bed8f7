"""Two versions of one kind side by side: contract, sizes, parity, and what each makes of the same golden inputs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from components.compatibility import compatible, interchangeable
from components.contract import Kind
from components.folder import ComponentFolder
from components.manifest import Manifest
from components.record import Record
from components.reference import ComponentRef, registered_name
from components.trial import CHAIN, DRAWN, TrialReport
from registry.errors import RegistryError
from registry.fields import contract_fields
from registry.gate.examine import GateSettings, try_version
from registry.registry import Registry
from registry.version import Version

_log = logging.getLogger(__name__)

T = TypeVar("T", str, int)


class Difference(Record):
    """What differs between two versions: what is equal is left out of `fields` and `files`.

    A pair holds what the first has and what the second has, None where it has nothing. `not_interchangeable` lists
    what keeps the first from the second's place. `trial` is of the first, compared with the second: the PSNR of the
    two in dB, on the first's golden inputs or on four prompts, is among its figures.
    """

    first: ComponentRef
    second: ComponentRef
    fields: dict[str, tuple[str | None, str | None]]
    files: dict[str, tuple[int | None, int | None]]
    bytes: tuple[int, int]
    parity: tuple[float, float]
    not_interchangeable: tuple[str, ...]
    trial: TrialReport


def diff(
    registry: Registry, first: Version, second: Version, settings: GateSettings, pictures: Path | None = None
) -> Difference:
    """Compare two versions; `pictures` is a PNG file to write what the first draws to, and below it the second.

    A child process runs both, as for the gate. A text encoder or denoiser draws with what is in production of its
    bundle, where that fits.

    Raises:
        RegistryError: they are of two kinds, or one cannot be fetched.
    """
    kind = first.contract.kind
    if kind != second.contract.kind:
        raise RegistryError(f"{first.ref} is a {kind} and {second.ref} a {second.contract.kind}: nothing to compare")
    ours, theirs = (ComponentFolder.open(registry.fetch(each.ref)).manifest for each in (first, second))
    beside = _beside(registry, first) if kind in DRAWN else {}  # a decoder is compared by golden latents alone
    trial = try_version(registry, first, beside, second, settings, pictures=pictures)
    return Difference(
        first=first.ref,
        second=second.ref,
        fields=_pairs(_fields(ours), _fields(theirs)),
        files=_pairs(_files(ours), _files(theirs)),
        bytes=(sum(_files(ours).values()), sum(_files(theirs).values())),
        parity=(ours.parity.max_absolute_error, theirs.parity.max_absolute_error),
        not_interchangeable=tuple(interchangeable(ours.contract, theirs.contract)),
        trial=trial,
    )


def _beside(registry: Registry, version: Version) -> dict[Kind, Version]:
    """What a version draws with: the parts of its bundle that are in production and fit it."""
    bundle = version.ref.name.split(".")[0]
    live = registry.in_production(bundle)
    for sentence in live.unknown:
        _log.warning("%s", sentence)
    names = {registered_name(bundle, kind): kind for kind in CHAIN if kind != version.contract.kind}
    return {
        names[other.ref.name]: other
        for other in live.versions
        if other.ref.name in names and not compatible(version.contract, other.contract)
    }


def _fields(manifest: Manifest) -> dict[str, str]:
    exporter = {f"origin.exporter.{package}": version for package, version in manifest.origin.exporter.items()}
    origin = {"origin.source": manifest.origin.source, "weights": manifest.weights}
    if manifest.origin.licence is not None:
        origin["origin.licence"] = manifest.origin.licence
    return contract_fields(manifest.contract) | origin | exporter


def _files(manifest: Manifest) -> dict[str, int]:
    return {name: record.size for name, record in manifest.files.items()}


def _pairs(first: Mapping[str, T], second: Mapping[str, T]) -> dict[str, tuple[T | None, T | None]]:
    """What two mappings hold under a name, where that is not the same."""
    names = [*first, *(name for name in second if name not in first)]
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}
