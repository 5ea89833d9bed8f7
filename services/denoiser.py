"""The denoiser's deployment: noise to latents; the whole walk stays inside one replica."""

import asyncio
import threading

from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import EncodedText, FloatArray, ImageRequest
from components.reference import ComponentRef
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from pipeline.track import Track
from services.stage_host import StageHost, StageSettings


class _AbandonedError(Exception):
    """Nobody waits for these latents any more."""


class DenoiserDeployment:
    """Walks each picture in a thread of its own; pictures of several requests walk at the same time."""

    async def __init__(self, catalog: DeploymentHandle, settings: StageSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._host = StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings)
        await self._host.start(catalog)

    async def denoise(self, pin: ComponentRef, request: ImageRequest, encoded: EncodedText) -> FloatArray:
        """Draw the first picture of a request as latents [1, channels, height, width] in the denoiser's scale.

        A caller that goes away ends the walk at its next step.
        """
        abandoned = threading.Event()

        def on_step(_track: Track) -> None:
            self._host.metrics.evaluated(str(pin))
            if abandoned.is_set():
                raise _AbandonedError

        def walk(stage: Denoiser) -> FloatArray:
            return stage.denoise(denoise_jobs(request, encoded, stage.space)[0], on_step)

        try:
            return await self._host.run(pin, walk)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        await self._host.check_health()
