"""Whether a server follows the plans of a bundle: its controller says so in the bundle's record."""

from registry.registry import Registry
from registry.rollout.state import ROLLOUT_TAG, Rollout, read, written


def has_server(registry: Registry, bundle: str) -> bool:
    """Whether a server follows the plans of a bundle, as far as its record tells: one that crashed could not say so.

    Raises:
        RegistryError: the registry cannot be asked, or the record is damaged.
    """
    rollout = read(Rollout, registry.survey(bundle).tags.get(ROLLOUT_TAG))
    return rollout is not None and rollout.server is not None


def leave(registry: Registry, bundle: str, server: str) -> None:
    """Note that a server follows the plans of a bundle no more, unless another one has come since.

    Raises:
        RegistryError: the registry cannot be asked, or the record is damaged.
    """
    with registry.writing():
        rollout = read(Rollout, registry.survey(bundle).tags.get(ROLLOUT_TAG))
        if rollout is not None and rollout.server == server:
            alone = rollout.model_copy(update={"server": None})
            registry.set_bundle_tag(bundle, ROLLOUT_TAG, written(alone))
