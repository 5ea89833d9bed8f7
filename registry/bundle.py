"""Publish the components of one model together: as every start does with its own, or for a user."""

import logging
from itertools import combinations
from pathlib import Path

from components.compatibility import compatible
from components.contract import PARTS
from components.folder import ComponentFolder
from components.reference import DEFAULT_ALIAS, ComponentRef, registered_name
from registry.errors import RegistryError
from registry.promotion import chosen_by_start
from registry.registry import Registry
from registry.version import Version

_log = logging.getLogger(__name__)


def publish_bundle(registry: Registry, folder: Path, bundle: str) -> tuple[ComponentRef, ...]:
    """Publish the four component folders of a bundle folder where they are not there yet, in the order of `PARTS`.

    The alias `production` is set where a component has none of that name. Where earlier starts set all four, and no
    user moved one since, they move together to the folder's versions if those are newer. Whatever a user promoted
    stays, and with it the other three; one sentence in the log says so if the folder holds anything newer.

    Raises:
        ComponentError: a folder is missing or damaged, or `bundle` cannot be part of a name.
        RegistryError: the components do not fit each other, or what stays live does not fit one that would join it.
    """
    _check(folder)
    with registry.writing():
        refs = _publish(registry, folder, bundle)
        live = [_live(registry, ref.name) for ref in refs]
        unset = [ref for ref, version in zip(refs, live, strict=True) if version is None]
        behind = _behind([(ref, version) for ref, version in zip(refs, live, strict=True) if version])
        if moving := [*unset, *behind]:
            registry.promote_at_start(moving)
            _log.info("%s moved to %s", DEFAULT_ALIAS, _listed(moving))
    return refs


def publish_for_user(registry: Registry, folder: Path, bundle: str) -> tuple[ComponentRef, ...]:
    """Publish a bundle folder as `publish_bundle`, but only set the alias where it is unset; no start moves it then.

    Raises:
        ComponentError: a folder is missing or damaged, or `bundle` cannot be part of a name.
        RegistryError: the components do not fit each other, or what is live does not fit one that would join it.
    """
    _check(folder)
    with registry.writing():
        refs = _publish(registry, folder, bundle)
        if unset := [ref for ref in refs if _live(registry, ref.name) is None]:
            registry.promote_together(unset)
    return refs


def _check(folder: Path) -> None:
    """Refuse a bundle before any of it is published."""
    contracts = [ComponentFolder.open(folder / kind).manifest.contract for kind in PARTS]
    mismatches = [mismatch for a, b in combinations(contracts, 2) for mismatch in compatible(a, b)]
    if mismatches:
        raise RegistryError(f"{folder.absolute().name}: its components do not fit: " + "; ".join(mismatches))


def _publish(registry: Registry, folder: Path, bundle: str) -> tuple[ComponentRef, ...]:
    return tuple(registry.publish(folder / kind, registered_name(bundle, kind)) for kind in PARTS)


def _live(registry: Registry, name: str) -> Version | None:
    version = registry.aliases(name).get(DEFAULT_ALIAS)
    return None if version is None else registry.version(name, version)


def _behind(live: list[tuple[ComponentRef, Version]]) -> list[ComponentRef]:
    """The folder's versions that the alias moves to, given each with the live one."""
    newer = [ref for ref, version in live if ref.version > version.ref.version]
    by_user = [version.ref for _, version in live if not chosen_by_start(version, DEFAULT_ALIAS)]
    ahead = [version.ref for ref, version in live if ref.version < version.ref.version]
    if newer and not by_user and not ahead:
        return newer
    # a user's choice beside an older folder is nothing to tell of
    if newer or (ahead and not by_user):
        reason = f"no start chose {_listed(by_user)}" if by_user else f"{_listed(ahead)} came after the folder's"
        others = [f"{version.ref} where the folder's is {ref}" for ref, version in live if ref != version.ref]
        _log.warning("%s stays as it is, since %s: %s", DEFAULT_ALIAS, reason, ", ".join(others))
    return []


def _listed(refs: list[ComponentRef]) -> str:
    return ", ".join(map(str, refs))
