"""The catalog's deployment: the one process that asks the registry which version of each component is live."""

import asyncio
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from components.contract import PARTS
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.reference import DEFAULT_ALIAS, Selector, registered_name
from pipeline.bundle import require_fit
from registry.bundle import publish_bundle
from registry.errors import RegistryError
from registry.registry import Registry
from registry.settings import RegistrySettings
from services.errors import StartError
from services.messages import LiveModel


class CatalogSettings(BaseModel):
    """Which bundle is served; `folder`, where given, is published first unless the registry has it already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    folder: Path | None
    registry: RegistrySettings


class CatalogDeployment:
    """Resolves the bundle's aliases once at its start, and brings every component into this machine's cache."""

    async def __init__(self, settings: CatalogSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._live = await asyncio.to_thread(load, settings)

    async def live(self) -> LiveModel:
        """The exact versions that new requests are pinned to."""
        return self._live


def load(settings: CatalogSettings) -> LiveModel:
    """Publish the bundle's folder if need be, resolve its production aliases, fetch and check what they point at.

    Raises:
        StartError: a component is missing, damaged or does not fit the others, or the registry cannot be used.
    """
    try:
        registry = Registry.connect(settings.registry)
        if settings.folder is not None:
            publish_bundle(registry, settings.folder, settings.bundle)
        names = {kind: registered_name(settings.bundle, kind) for kind in PARTS}
        pins = {kind: registry.resolve(Selector(name=name, alias=DEFAULT_ALIAS)) for kind, name in names.items()}
        folders = {kind: ComponentFolder.open(registry.fetch(pin)) for kind, pin in pins.items()}
        contracts = {kind: folder.manifest.contract for kind, folder in folders.items()}
        require_fit(contracts)
    except (ComponentError, RegistryError) as error:
        raise StartError(f"bundle {settings.bundle}: {error}") from None
    return LiveModel(settings.bundle, pins, contracts)
