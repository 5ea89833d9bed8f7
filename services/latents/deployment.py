"""The latents' deployment: one replica that keeps them on its disk, for every replica of the graph and the ingress."""

import asyncio
import logging

from services.latents.records import KeptLatents
from services.latents.store import LatentStore, StoreSettings
from services.metrics import LatentsMetrics

_log = logging.getLogger("ray.serve")

_SWEEP_S = 30.0


class LatentsDeployment:
    """Keeps latents for a time, and hands them to whoever had them made."""

    async def __init__(self, settings: StoreSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._sweeper: asyncio.Task[None] | None = None
        self._metrics = LatentsMetrics()
        self._store = await asyncio.to_thread(LatentStore, settings, self._metrics.dropped)
        self._show()
        # what has ended goes from the disk also where nobody asks for anything
        self._sweeper = asyncio.create_task(self._sweep())

    def __del__(self) -> None:
        """Stop sweeping; Serve calls it before the replica stops."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def keep(self, kept: KeptLatents, tenant: str) -> str:
        """Keep a picture's latents for a tenant, and return their id.

        Raises:
            LatentsNotKeptError: there is no room for them.
        """
        id_ = await asyncio.to_thread(self._store.keep, kept, tenant)
        self._show()
        return id_

    async def read(self, id_: str, tenant: str) -> KeptLatents:
        """What is kept under an id for a tenant.

        Raises:
            LatentsNotFoundError: nothing is.
        """
        return await asyncio.to_thread(self._store.read, id_, tenant)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await asyncio.to_thread(self._store.sweep)
            except OSError as error:
                _log.error("latents: the disk does not let go of a file: %s", error.strerror)
            self._show()

    def _show(self) -> None:
        self._metrics.holds(self._store.count, self._store.size)
