"""What the controller keeps on disk, written beside the event loop and in the order in which it was decided."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from components.contract import Contract
from components.reference import ComponentRef
from registry.rollout.state import Rollout
from services.rollout.decision import Aliases
from services.rollout.last_good import KnownVersion, LastGood

_log = logging.getLogger("ray.serve")


class Memory:
    """Has the newest decision written, and tries again where the disk refuses; used from one event loop only."""

    def __init__(self, write: Callable[[LastGood], object]) -> None:
        self._write = write
        self._newest: LastGood | None = None
        self._alone = asyncio.Lock()
        self._failed: str | None = None

    def keep(
        self,
        rollout: Rollout,
        aliases: Aliases,
        contracts: Mapping[ComponentRef, Contract],
        *,
        served: tuple[ComponentRef, ...] = (),
        admitted: tuple[ComponentRef, ...] = (),
    ) -> None:
        """Have this written next, with all that is known of the versions that it names."""
        pointed = [ref for at in aliases.values() for ref in at.values()]
        refs = dict.fromkeys((*rollout.refs, *rollout.former, *pointed, *served, *admitted))
        versions = tuple(KnownVersion(ref=ref, contract=contracts[ref]) for ref in refs if ref in contracts)
        self._newest = LastGood(rollout=rollout, versions=versions, aliases=aliases, served=served, admitted=admitted)

    async def write(self) -> None:
        """Write what is to be kept, if it is not yet; a disk that refuses is named in the log, once."""
        async with self._alone:
            newest = self._newest
            if newest is None:
                return
            try:
                await asyncio.to_thread(self._write, newest)
            except OSError as error:
                if self._failed != error.strerror:
                    _log.warning("what is live cannot be kept on disk: %s", error.strerror)
                self._failed = error.strerror
                return
            self._failed = None
            if self._newest is newest:
                self._newest = None
