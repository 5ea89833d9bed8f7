"""Decoding that never passes off as a picture what is none: where a version gives no picture another is asked."""

import logging
from dataclasses import dataclass

import numpy as np
from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import FloatArray, Pixels, Tiling
from components.reference import ComponentRef
from services.calls import Answered, answered
from services.deadlines import Deadline
from services.errors import DeadlineExceededError, GivenUpError, NonFiniteImageError, ServingError
from services.messages import Pins
from services.metrics.graph import GraphMetrics
from services.retries import again_where_lost
from services.timelines.spans import Span

_log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """One picture's pixels [height, width, 3], the version that made them, and the spans of the call.

    The work alone took `seconds`.
    """

    pixels: Pixels
    decoder: ComponentRef
    seconds: float
    spans: tuple[Span, ...]


class PictureDecoder:
    """Asks the VAE decoder's deployment, and again where a replica stops or a version gives no picture."""

    def __init__(self, vae_decoder: DeploymentHandle, metrics: GraphMetrics) -> None:
        self._vae_decoder = vae_decoder
        self._metrics = metrics

    async def picture(
        self,
        latents: FloatArray,
        tiling: Tiling | None,
        pins: Pins,
        fallback: ComponentRef | None,
        deadline: Deadline,
    ) -> Made:
        """The picture of latents [1, channels, height, width] by the pinned version, or else by `fallback`.

        `tiling` is that of the request, here as in the other methods.

        Raises:
            NonFiniteImageError: neither gave one, or there is no other to ask, or the latents can give none.
            DeadlineExceededError: no replica could take it in time.
            GivenUpError: two replicas stopped while they worked on it.
            StartError: the pinned version cannot be had or opened.
        """
        try:
            return await self.alone(latents, tiling, pins, deadline)
        except NonFiniteImageError as error:
            said, at_fault = error.message, error.pin
        if at_fault != pins[Kind.VAE_DECODER]:
            # no other version makes more of them
            _log.error("%s", said)
            raise NonFiniteImageError(said, at_fault)
        if fallback is None or fallback == pins[Kind.VAE_DECODER]:
            _log.error("%s; there is no other version to ask", said)
            raise NonFiniteImageError(f"{said}; there is no other version to decode it again", at_fault)
        _log.warning("%s; %s decodes it again", said, fallback)
        try:
            return await self.alone(latents, tiling, {**pins, Kind.VAE_DECODER: fallback}, deadline)
        except NonFiniteImageError as error:
            _log.error("%s", error.message)
            raise NonFiniteImageError(f"{said}; {error.message}, asked to decode it again", at_fault) from None
        except (DeadlineExceededError, GivenUpError):
            raise
        except ServingError as error:
            _log.error("the fallback cannot decode: %s", error.message)
            raise NonFiniteImageError(f"{said}; {fallback} could not decode it again", at_fault) from None

    async def alone(self, latents: FloatArray, tiling: Tiling | None, pins: Pins, deadline: Deadline) -> Made:
        """The picture by the pinned version and no other.

        Raises:
            NonFiniteImageError: it gave none, which is counted against the version at fault.
            GivenUpError, StartError, DeadlineExceededError: as `picture`.
        """
        pin = pins[Kind.VAE_DECODER]
        try:
            return await again_where_lost(
                Kind.VAE_DECODER, self._metrics, lambda: self.once(latents, tiling, pin, deadline)
            )
        except NonFiniteImageError as error:
            said = error.message
        stage = Kind.VAE_DECODER
        if not np.isfinite(latents).all():
            # a decoder makes nothing of them
            stage = Kind.DENOISER
            said = f"{said}, as the latents of {pins[stage]} were not finite already"
        self._metrics.no_picture(stage, pins[stage])
        raise NonFiniteImageError(said, pins[stage])

    async def once(self, latents: FloatArray, tiling: Tiling | None, pin: ComponentRef, deadline: Deadline) -> Made:
        """The picture by one version, in one attempt that is held against nobody.

        Raises:
            NonFiniteImageError: it gave none.
            DeadlineExceededError: as `picture`.
        """
        answer: Answered[Pixels] = await answered(self._vae_decoder.decode.remote(pin, latents, tiling), deadline)
        seconds = (answer.queue.seconds, answer.transfer.seconds)
        self._metrics.answered(Kind.VAE_DECODER, pin, answer.made.nbytes, *seconds)
        return Made(answer.made, pin, answer.work.seconds, answer.spans)
