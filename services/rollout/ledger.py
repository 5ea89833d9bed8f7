"""What the registry has not been told yet: the rollout's record, and the aliases that are to follow it."""

import logging
from collections.abc import Iterable
from typing import NamedTuple

from components.reference import DEFAULT_ALIAS, ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout import ROLLOUT_TAG, Rollout, written
from services.rollout.desk import Desk

_log = logging.getLogger("ray.serve")


class Told(NamedTuple):
    """What the registry was told: where `production` is to point, and why it does not, None where it does."""

    production: tuple[ComponentRef, ...] = ()
    refused: str | None = None


class Ledger:
    """Keeps what is owed to the registry until the registry has it; used from one event loop only."""

    def __init__(self, bundle: str, desk: Desk) -> None:
        self._bundle = bundle
        self._desk = desk
        self._owed: dict[str, ComponentRef] = {}
        self._unwritten = True

    @property
    def owes_aliases(self) -> bool:
        """Whether an alias has not followed yet."""
        return bool(self._owed)

    def owe(self, production: Iterable[ComponentRef] = ()) -> None:
        """Have the record written next, and `production` point at these."""
        self._unwritten = True
        self._owed |= {ref.name: ref for ref in production}

    async def settle(self, rollout: Rollout) -> Told:
        """Tell the registry all that is owed; at once where nothing is.

        Raises:
            RegistryError: it refuses the record, or as a RegistryAwayError does not answer; it is owed still.
        """
        owed = tuple(self._owed.values())
        if not owed and not self._unwritten:
            return Told()
        self._unwritten = False
        try:
            refused = await self._desk.ask(lambda registry: _write(registry, self._bundle, owed, rollout))
        except BaseException:
            self._unwritten = True
            raise
        for ref in owed:
            if self._owed.get(ref.name) == ref:
                del self._owed[ref.name]
        return Told(owed, refused)


def _write(registry: Registry, bundle: str, owed: tuple[ComponentRef, ...], rollout: Rollout) -> str | None:
    refused = None
    try:
        # it waits for whoever publishes on this machine, which the record alone need not
        if owed:
            registry.promote_together(owed)
    except RegistryAwayError:
        raise
    except RegistryError as error:
        # the record is right all the same; an alias of another name may stand in the way
        refused = str(error)
        _log.warning("the alias %s does not follow: %s", DEFAULT_ALIAS, refused)
    registry.set_bundle_tag(bundle, ROLLOUT_TAG, written(rollout))
    return refused
