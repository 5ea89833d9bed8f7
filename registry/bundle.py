"""Publish the components of one model together: as every start does with its own, or for a user."""

import logging
from pathlib import Path

from components.compatibility import mismatches_among
from components.contract import NAMED, PARTS, Kind
from components.folder import ComponentFolder
from components.manifest import MANIFEST_NAME
from components.reference import DEFAULT_ALIAS, ComponentRef, registered_name
from registry.beside import InProduction
from registry.errors import RegistryError
from registry.promotion import chosen_by_start
from registry.registry import Registry

_log = logging.getLogger(__name__)

CANDIDATE_ALIAS = "candidate"


def publish_bundle(registry: Registry, folder: Path, bundle: str) -> tuple[ComponentRef, ...]:
    """Publish the component folders of a bundle folder where they are not there yet; give the four of `PARTS`.

    The folders of other names are published too. One of another kind goes into production beside the four; a further
    one of a kind that is there already, such as a second VAE decoder, gets the alias `candidate` where its name has
    none. ControlNets, adapters and LoRAs are each of a name of their own, `<bundle>.controlnet.<name>` from the folder
    `controlnet-<name>`, and all of them go into production.

    The alias `production` is set where a component has none of that name. Where earlier starts set all of them, and no
    user moved one since, they move together to the folder's versions if those are newer. Whatever a user promoted
    stays, and with it the others; one sentence in the log says so if the folder holds anything newer. So does what is
    in production and none of ours.

    Raises:
        ComponentError: a folder is missing or damaged, or `bundle` cannot be part of a name.
        RegistryError: the components do not fit each other, or what stays live does not fit one that would join it.
    """
    refs, candidates = _published(registry, folder, bundle)
    with registry.writing():
        production = registry.survey(bundle).production
        unset = [ref for ref in refs if ref.name not in production]
        live = {ref.name: production[ref.name] for ref in refs if ref.name in production}
        if moving := [*unset, *_behind(refs, registry.pointed_at(live))]:
            registry.promote_at_start(moving)
            _log.info("%s moved to %s", DEFAULT_ALIAS, _listed(moving))
        _offer(registry, candidates)
    return tuple(refs[: len(PARTS)])


def publish_for_user(registry: Registry, folder: Path, bundle: str) -> tuple[ComponentRef, ...]:
    """Publish a bundle folder as `publish_bundle`, but only set the alias where it is unset; no start moves it then.

    Raises:
        ComponentError: a folder is missing or damaged, or `bundle` cannot be part of a name.
        RegistryError: the components do not fit each other, or what is live does not fit one that would join it.
    """
    refs, candidates = _published(registry, folder, bundle)
    with registry.writing():
        production = registry.survey(bundle).production
        if unset := [ref for ref in refs if ref.name not in production]:
            registry.promote_together(unset)
        _offer(registry, candidates)
    return tuple(refs[: len(PARTS)])


def _opened(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders that serve together, the four first, and the others; a bad bundle is refused before any is published.

    Raises:
        ComponentError: a folder is missing or damaged.
        RegistryError: those that serve together do not fit each other.
    """
    contracts = [ComponentFolder.open(folder / kind).manifest.contract for kind in PARTS]
    for kind, contract in zip(PARTS, contracts, strict=True):
        if contract.kind != kind:
            raise RegistryError(f"{folder.absolute().name}: its folder {kind} holds a {contract.kind}")
    served = [folder / kind for kind in PARTS]
    further = sorted(path for path in folder.iterdir() if path not in served and (path / MANIFEST_NAME).is_file())
    candidates = []
    for path in further:
        contract = ComponentFolder.open(path).manifest.contract
        if contract.kind not in NAMED and any(contract.kind == other.kind for other in contracts):
            candidates.append(path)
        else:
            served.append(path)
            contracts.append(contract)
    mismatches = mismatches_among(contracts)
    if mismatches:
        raise RegistryError(f"{folder.absolute().name}: its components do not fit: " + "; ".join(mismatches))
    return served, candidates


def _published(registry: Registry, folder: Path, bundle: str) -> tuple[list[ComponentRef], list[ComponentRef]]:
    """What is published of a folder: what serves together, and the others.

    The lock on aliases is not held meanwhile: an upload may take long.
    """
    served, candidates = _opened(folder)
    refs = [_publish(registry, path, bundle) for path in served]
    return refs, [_publish(registry, path, bundle) for path in candidates]


def _publish(registry: Registry, path: Path, bundle: str) -> ComponentRef:
    kind = ComponentFolder.open(path).manifest.contract.kind
    return registry.publish(path, registered_name(bundle, kind, _own_name(kind, path)))


def _own_name(kind: Kind, path: Path) -> str | None:
    return path.name.removeprefix(f"{kind}-") if kind in NAMED else None


def _offer(registry: Registry, candidates: list[ComponentRef]) -> None:
    """Point an alias that requests may ask for at what serves nobody by itself."""
    for ref in candidates:
        if CANDIDATE_ALIAS not in registry.aliases(ref.name):
            registry.promote_together([ref], CANDIDATE_ALIAS)


def _behind(refs: list[ComponentRef], live: InProduction) -> list[ComponentRef]:
    """The folder's versions that the alias moves to, given what is live."""
    if live.unknown:
        _log.warning("%s stays as it is: %s", DEFAULT_ALIAS, "; ".join(live.unknown))
        return []
    pairs = [(ref, version) for ref in refs for version in live.versions if version.ref.name == ref.name]
    newer = [ref for ref, version in pairs if ref.version > version.ref.version]
    by_user = [version.ref for _, version in pairs if not chosen_by_start(version, DEFAULT_ALIAS)]
    ahead = [version.ref for ref, version in pairs if ref.version < version.ref.version]
    if newer and not by_user and not ahead:
        return newer
    # a user's choice beside an older folder is nothing to tell of
    if newer or (ahead and not by_user):
        reason = f"no start chose {_listed(by_user)}" if by_user else f"{_listed(ahead)} came after the folder's"
        others = [f"{version.ref} where the folder's is {ref}" for ref, version in pairs if ref != version.ref]
        _log.warning("%s stays as it is, since %s: %s", DEFAULT_ALIAS, reason, ", ".join(others))
    return []


def _listed(refs: list[ComponentRef]) -> str:
    return ", ".join(map(str, refs))
