"""A bundle on disk: a folder with one component folder of each kind."""

from collections.abc import Mapping
from pathlib import Path

from components.compatibility import mismatches_among
from components.contract import Contract, Kind
from components.errors import ComponentError
from components.folder import ComponentFolder


def open_bundle(path: Path, kinds: tuple[Kind, ...]) -> dict[Kind, ComponentFolder]:
    """Open the component folders of `kinds` below `path`, check every digest and that they fit together.

    Raises:
        ComponentError: the folder or a component is missing or damaged, or some do not fit; every mismatch is named.
    """
    if not path.is_dir():
        raise ComponentError(f"{path.name}: no such folder; a bundle holds {', '.join(kinds)}")
    folders = {kind: ComponentFolder.open(path / kind) for kind in kinds}
    for folder in folders.values():
        folder.verify()
    require_fit({kind: folder.manifest.contract for kind, folder in folders.items()})
    return folders


def those_there(path: Path, *kinds: Kind) -> tuple[Kind, ...]:
    """The kinds that a bundle may do without and of which the folder `path` has one."""
    return tuple(kind for kind in kinds if (path / kind).is_dir())


def require_fit(contracts: Mapping[Kind, Contract]) -> None:
    """Refuse components that cannot work in one chain.

    Raises:
        ComponentError: naming every mismatch of every pair, or a component under another kind's name.
    """
    found = [f"{kind}: is a {contract.kind}" for kind, contract in contracts.items() if contract.kind != kind]
    found += mismatches_among(contracts.values())
    if found:
        raise ComponentError(f"the components do not fit together: {'; '.join(found)}")
