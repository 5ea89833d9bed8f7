"""The latents' deployment: one replica that keeps latents, and the pictures of links, for every other."""

import asyncio
import logging

from services.files.pictures import Link, PictureStore
from services.files.store import StoreSettings
from services.latents.records import KeptLatents
from services.latents.store import LatentStore
from services.messages import PictureFormat
from services.metrics.stores import StoreMetrics

_log = logging.getLogger("ray.serve")

_SWEEP_S = 30.0


class LatentsDeployment:
    """Keeps latents for a time, and hands them to whoever had them made; so it does with pictures, by signed links."""

    async def __init__(self, latents: StoreSettings, pictures: StoreSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._sweeper: asyncio.Task[None] | None = None
        self._metrics = StoreMetrics("latents")
        self._picture_metrics = StoreMetrics("pictures")
        self._latents = await asyncio.to_thread(LatentStore, latents, self._metrics.dropped)
        self._pictures = await asyncio.to_thread(PictureStore, pictures, self._picture_metrics.dropped)
        self._show()
        # what has ended goes also where nobody asks for anything
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
        id_ = await asyncio.to_thread(self._latents.keep, kept, tenant)
        self._show()
        return id_

    async def read(self, id_: str, tenant: str) -> KeptLatents:
        """What is kept under an id for a tenant.

        Raises:
            LatentsNotFoundError: nothing is.
        """
        return await asyncio.to_thread(self._latents.read, id_, tenant)

    async def keep_picture(self, data: bytes, format_: PictureFormat) -> Link:
        """Keep a picture's file, and return the link to it.

        Raises:
            FileNotKeptError: there is no room for it.
        """
        link = await asyncio.to_thread(self._pictures.keep, data, format_)
        self._show()
        return link

    async def read_picture(self, link: Link) -> bytes:
        """The file that a link names.

        Raises:
            LinkSignatureError: the link is none of ours.
            LinkExpiredError: it is over.
        """
        return await asyncio.to_thread(self._pictures.read, link)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            for name, store in (("latents", self._latents), ("links", self._pictures)):
                try:
                    await asyncio.to_thread(store.sweep)
                except OSError as error:
                    _log.error("%s: the store does not let go of a file: %s", name, error.strerror)
            self._show()

    def _show(self) -> None:
        self._metrics.holds(self._latents.count, self._latents.size)
        self._picture_metrics.holds(self._pictures.count, self._pictures.size)
