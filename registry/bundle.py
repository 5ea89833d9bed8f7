"""Publish the components of one model together, as the first start does."""

from itertools import combinations
from pathlib import Path

from components.compatibility import compatible
from components.contract import Kind
from components.folder import ComponentFolder
from components.reference import DEFAULT_ALIAS, ComponentRef, registered_name
from registry.errors import RegistryError
from registry.registry import Registry

PARTS = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER, Kind.VAE_ENCODER)


def publish_bundle(
    registry: Registry, folder: Path, bundle: str, alias: str = DEFAULT_ALIAS
) -> tuple[ComponentRef, ...]:
    """Publish the four component folders of a bundle folder where they are not there yet, in the order of `PARTS`.

    The alias is set where a component has none of that name: whatever a user promoted stays, also after a restart.

    Raises:
        ComponentError: a folder is missing or damaged, or `bundle` cannot be part of a name.
        RegistryError: the components do not fit each other, or what is live does not fit one that would join it.
    """
    _check(folder)
    with registry.writing():
        refs = tuple(registry.publish(folder / kind, registered_name(bundle, kind)) for kind in PARTS)
        for ref in refs:
            if alias not in registry.aliases(ref.name):
                registry.promote(ref.name, ref.version, alias)
    return refs


def _check(folder: Path) -> None:
    """Refuse a bundle before any of it is published."""
    contracts = [ComponentFolder.open(folder / kind).manifest.contract for kind in PARTS]
    mismatches = [mismatch for a, b in combinations(contracts, 2) for mismatch in compatible(a, b)]
    if mismatches:
        raise RegistryError(f"{folder.absolute().name}: its components do not fit: " + "; ".join(mismatches))
