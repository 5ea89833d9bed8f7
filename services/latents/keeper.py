"""Having a picture's latents kept without that ever failing the picture."""

import asyncio
import logging

from ray.serve.handle import DeploymentHandle

from services.errors import LatentsNotKeptError
from services.latents.records import KeptLatents
from services.metrics.graph import GraphMetrics

_log = logging.getLogger("ray.serve")

# Serve calls queue while a replica starts again, and a picture must not wait for that
MOST_S = 5.0


class Keeper:
    """Asks the latents' deployment to keep latents; where it does not they are not kept, and that is counted."""

    def __init__(self, latents: DeploymentHandle, metrics: GraphMetrics) -> None:
        self._latents = latents
        self._metrics = metrics

    async def keep(self, kept: KeptLatents, tenant: str) -> str | None:
        """The id under which the tenant can have them, None where they are not kept."""
        try:
            async with asyncio.timeout(MOST_S):
                id_: str = await self._latents.keep.remote(kept, tenant)
        except LatentsNotKeptError as error:
            _log.warning("latents are not kept: %s", error.message)
        except Exception as error:  # noqa: BLE001 - the picture is what was asked for first
            _log.warning("latents are not kept: %s", type(error).__name__)
        else:
            return id_
        self._metrics.not_kept()
        return None
