"""Whether a version may go live beside the other components of its bundle."""

from collections.abc import Iterable

from components.compatibility import compatible
from registry.errors import RegistryError
from registry.version import Version


def check_fit(candidate: Version, others: Iterable[Version]) -> None:
    """Refuse a version that does not fit every one of `others`.

    Raises:
        RegistryError: it does not; the sentence lists every mismatch.
    """
    mismatches = [
        f"{other.ref}: {mismatch}" for other in others for mismatch in compatible(candidate.contract, other.contract)
    ]
    if mismatches:
        raise RegistryError(f"{candidate.ref} does not fit " + "; ".join(mismatches))
