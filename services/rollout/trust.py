"""Whether a registry that answers is the one that was served from: it may have been emptied or set back meanwhile."""

from collections.abc import Iterable

from components.errors import ComponentError
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.state import ROLLOUT_TAG, Rollout, read


class StrangeRegistryError(RegistryAwayError):
    """The registry that answers is not the one that was served from, or was set back."""


def require_known(registry: Registry, bundle: str, served: Rollout) -> None:
    """Take a registry that has not all versions that were live last for one that is away.

    A version that its own record knows of may have been deleted since.

    Raises:
        StrangeRegistryError: it lacks one, or has another in its place.
        RegistryAwayError: it does not answer.
    """
    lacking = [ref for ref in served.components if not _has(registry, ref)]
    if not lacking:
        return
    recorded = set(_recorded(registry, bundle))
    if strange := [str(ref) for ref in lacking if ref not in recorded]:
        raise StrangeRegistryError(
            f"bundle {bundle}: the registry has not {', '.join(strange)}, which was live here last; "
            "it was emptied, set back or is another one"
        )


def _has(registry: Registry, ref: ComponentRef) -> bool:
    try:
        return registry.version(ref.name, ref.version).ref == ref
    except RegistryAwayError:
        raise
    except RegistryError:
        return False


def _recorded(registry: Registry, bundle: str) -> Iterable[ComponentRef]:
    try:
        found = read(Rollout, registry.survey(bundle).tags.get(ROLLOUT_TAG))
    except RegistryAwayError:
        raise
    except (RegistryError, ComponentError):
        return ()
    return () if found is None else (*found.components, *found.previous, *found.former)
