"""The adapters' deployment: control pictures to features.

They are made once a request, unlike what a ControlNet adds: so adapters take no room of denoisers, and scale by
themselves.
"""

import numpy as np

from components.contract import Kind
from components.messages import Arrays, Pixels
from components.reference import ComponentRef
from pipeline.adapter import Adapter
from services.messages import Worked
from services.stage_host import StageHost, StageSettings
from services.timelines.spans import Stopwatch


def _probe(stage: Adapter) -> None:
    side = stage.space.downscale
    stage.features(np.zeros((1, side, side, 3), np.uint8))


class AdapterDeployment:
    """Makes the features of one control picture at a time; a version is opened when the first request names it."""

    def __init__(self, settings: StageSettings) -> None:
        self._host = StageHost(Kind.ADAPTER, Adapter, _probe, settings.own(Kind.ADAPTER))

    async def features(self, pin: ComponentRef, pixels: Pixels) -> Worked[Arrays]:
        """Features [1, ...] of pixels [1, H, W, 3], 0..255, by a pinned version."""

        def work(stage: Adapter) -> Worked[Arrays]:
            watch = Stopwatch()
            return Worked(stage.features(pixels), self._host.span("encode", watch, pin, rows=len(pixels)))

        return await self._host.run(pin, work)

    async def knock(self) -> None:
        """Answer: whoever knocks wants a replica to run."""

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        await self._host.check_health()
