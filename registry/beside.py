"""What is in production of a bundle, and what a component does not fit of it."""

from collections.abc import Iterator
from typing import NamedTuple

from components.compatibility import compatible, interchangeable
from components.contract import Contract
from registry.errors import RegistryError
from registry.version import Version


class InProduction(NamedTuple):
    """The versions in production by name, and for each that is none of ours the sentence that says so.

    Nobody knows what fits those. They keep nothing from being published, where they are only said, and everything from
    going live beside them.
    """

    versions: tuple[Version, ...]
    unknown: tuple[str, ...] = ()

    def require_all(self) -> tuple[Version, ...]:
        """All that is in production, for what must fit the whole of it.

        Raises:
            RegistryError: there is something of which nobody knows what fits it.
        """
        if self.unknown:
            raise RegistryError("; ".join(self.unknown))
        return self.versions


def mismatches(name: str, contract: Contract, live: InProduction) -> Iterator[str]:
    """All that a contract under a name does not fit of what is live, the version whose place it would take included.

    What is none of ours is among it, as nobody knows.
    """
    for other in live.versions:
        own = other.ref.name == name
        said = interchangeable(contract, other.contract) if own else compatible(contract, other.contract)
        yield from (f"{other.ref}: {mismatch}" for mismatch in said)
    yield from live.unknown
