"""What a replica does with a pin: have the files here, and ask MLflow only when they are not."""

from pathlib import Path

from components.reference import ComponentRef
from registry.local.cache import ComponentCache
from registry.registry import Registry
from registry.settings import RegistrySettings


def fetch(ref: ComponentRef, settings: RegistrySettings) -> Path:
    """A checked copy of a component on this machine; MLflow is neither imported nor asked when the cache has one.

    Raises:
        RegistryError: the registry cannot be reached, or does not hold what the pin says.
    """
    found = ComponentCache(settings.cache).get(ref)
    return Registry.connect(settings).fetch(ref) if found is None else found
