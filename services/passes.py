"""A picture's walks: one, or two with the picture enlarged between them."""

import asyncio
from dataclasses import replace

from components.contract import Kind
from components.messages import FloatArray, ImageRequest, Source
from pipeline.hires import enlarged_latents, enlarged_pixels, enlarges_latents
from services.decoding import PictureDecoder
from services.denoising import Denoisers
from services.drawing import Drawing
from services.encoders import Encoders
from services.timelines.spans import Span, Stopwatch


class Passes:
    """Asks the stages for the latents of one picture, pass by pass."""

    def __init__(self, denoisers: Denoisers, encoders: Encoders, decoder: PictureDecoder) -> None:
        self._denoisers = denoisers
        self._encoders = encoders
        self._decoder = decoder

    async def walk(self, drawing: Drawing, image: int) -> tuple[FloatArray, tuple[Span, ...]]:
        """The latents of picture `image` after its last pass, and the spans of what the stages did for it.

        Raises:
            NonFiniteImageError: the picture between two passes is none.
            GivenUpError, StartError, DeadlineExceededError: as the stages that are asked.
        """
        order = drawing.order
        if order.request.hires is None:
            latents, walk = await self._denoisers.walk(drawing, image)
            return latents, (walk,)
        first, second = order.request.passes
        small = replace(drawing, order=replace(order, request=first), after=second.walked)
        latents, walk = await self._denoisers.walk(small, image)
        drawing.deadline.require("after the first pass")
        # what was lost with a replica is encoded again by now
        large = replace(drawing, order=replace(order, request=second), encoded=small.encoded, before=first.walked)
        spans = await self._begin(large, latents, first, order.request.hires.upscaler)
        latents, over = await self._denoisers.walk(large, image)
        return latents, (walk, *spans, over)

    async def _begin(
        self, second: Drawing, latents: FloatArray, first: ImageRequest, upscaler: str
    ) -> tuple[Span, ...]:
        """Give the second pass what it starts from, the `latents` of the first one enlarged."""
        order = second.order
        if enlarges_latents(upscaler):
            second.start = await asyncio.to_thread(enlarged_latents, latents, first, order.request, upscaler)
            return ()
        watch = Stopwatch()
        made = await self._decoder.alone(latents, first.tiling, order.pins, second.deadline)
        decode = watch.span(Kind.VAE_DECODER, *made.spans, stage=Kind.VAE_DECODER)
        pixels = await asyncio.to_thread(enlarged_pixels, made.pixels, order.request, upscaler)
        second.order = replace(order, source=Source(pixels))
        second.encoded = await self._encoders.with_source(second.encoded, second.order, second.deadline)
        return decode, *second.encoded.spans
