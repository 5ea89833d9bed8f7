"""The graph's deployment: chains the stages for each request."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import FloatArray, ImageRequest
from services.deadlines import Deadline
from services.decoding import PictureDecoder
from services.denoising import Denoisers
from services.drawing import Drawing, Watch
from services.encoders import Encoders
from services.encoding import describe, finished_picture, origin_of
from services.latents.keeper import Keeper
from services.latents.records import Compared, CompareOrder, DecodeOrder, KeptLatents
from services.latents.views import LatentViews
from services.messages import Drawn, Order, Picture, Progress, Queued
from services.metrics.graph import GraphMetrics
from services.passes import Passes
from services.replica import application, whereabouts
from services.shadows import Shadows, Shown
from services.stage_times import times_of
from services.standing import Standings
from services.timelines.spans import Span, Stopwatch
from services.timelines.tracing import export
from services.waking import Waking

# for Serve's controller, which no request needs
_PATIENCE_S = 0.5
_OLD_S = 5.0


class GraphSettings(BaseModel):
    """What the graph needs to know.

    After how many evaluations at most a walk can be gone on with elsewhere, the pictures of how many answers are
    decoded once more at a time where a candidate is tried, how many requests are held for a stage without replicas,
    and whether pictures' files hold the prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_every: int = Field(ge=1)
    shadows: int = Field(ge=0)
    max_held: int = Field(ge=1)
    write_prompts: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class _DrawnPicture:
    picture: Picture
    shown: Shown
    span: Span


class GraphDeployment:
    """Sends an order through the stages, and once more through another replica where one stops."""

    def __init__(
        self,
        text_encoder: DeploymentHandle,
        third_text_encoder: DeploymentHandle,
        denoiser: DeploymentHandle,
        vae_decoder: DeploymentHandle,
        vae_encoder: DeploymentHandle,
        adapter: DeploymentHandle,
        image_encoder: DeploymentHandle,
        rollout: DeploymentHandle,
        latents: DeploymentHandle,
        settings: GraphSettings,
    ) -> None:
        self._settings = settings
        self._replica, _ = whereabouts()
        self._metrics = GraphMetrics()
        stages = {
            Kind.TEXT_ENCODER: text_encoder,
            Kind.THIRD_TEXT_ENCODER: third_text_encoder,
            Kind.DENOISER: denoiser,
            Kind.VAE_DECODER: vae_decoder,
            Kind.VAE_ENCODER: vae_encoder,
            Kind.ADAPTER: adapter,
            Kind.IMAGE_ENCODER: image_encoder,
        }
        self._waking = Waking(
            stages, Standings(application(), _PATIENCE_S, old_s=_OLD_S), settings.max_held, self._metrics
        )
        self._encoders = Encoders(text_encoder, third_text_encoder, vae_encoder, adapter, image_encoder, self._metrics)
        denoisers = Denoisers(denoiser, self._encoders, self._metrics, settings.snapshot_every)
        self._decoder = PictureDecoder(vae_decoder, self._metrics)
        self._passes = Passes(denoisers, self._encoders, self._decoder)
        self._views = LatentViews(self._decoder)
        self._keeper = Keeper(latents, self._metrics)
        self._shadows = Shadows(self._decoder, rollout, self._metrics, settings.shadows)

    def __del__(self) -> None:
        """Give up what nobody waits for; Serve calls it on the event loop, before the replica stops."""
        self._shadows.close()

    async def draw(self, order: Order) -> Drawn:
        """Draw all pictures of an order, each as `ImageRequest.picture` gives it alone."""
        return await self._draw(order, None)

    async def watch(self, order: Order, preview_every: int = 0) -> AsyncIterator[Progress | Queued | Drawn]:
        """Draw an order and tell of every step; with a preview every `preview_every` steps unless that is 0.

        Before, it is told which place in the queue a picture has, if it waits. The last that comes is what `draw`
        gives.
        """
        news: asyncio.Queue[Progress | Queued | None] = asyncio.Queue()
        drawing = asyncio.create_task(self._draw(order, Watch(news.put_nowait, preview_every)))
        drawing.add_done_callback(lambda _: news.put_nowait(None))
        try:
            while (progress := await news.get()) is not None:
                yield progress
            yield await drawing
        finally:
            drawing.cancel()

    async def decode(self, order: DecodeOrder) -> Picture:
        """The picture of kept latents by the version that is asked for."""
        await self._waking.awake((Kind.VAE_DECODER,), Deadline())
        return await self._views.decode(order)

    async def compare(self, order: CompareOrder) -> Compared:
        """The pictures of kept latents by two versions, and how they differ."""
        await self._waking.awake((Kind.VAE_DECODER,), Deadline())
        return await self._views.compare(order)

    async def _draw(self, order: Order, watch: Watch | None) -> Drawn:
        deadline, clock = Deadline(order.terms.deadline_s), Stopwatch()
        needed = {
            Kind.THIRD_TEXT_ENCODER: Kind.THIRD_TEXT_ENCODER in order.pins,
            Kind.VAE_ENCODER: order.encodes,
            Kind.ADAPTER: bool(order.controls_of(Kind.ADAPTER)),
            Kind.IMAGE_ENCODER: bool(order.image_prompts),
        }
        beside = (kind for kind, there in needed.items() if there)
        stages = (Kind.TEXT_ENCODER, *beside, Kind.DENOISER, Kind.VAE_DECODER)
        held = (clock.span("held"),) if await self._waking.awake(stages, deadline) else ()
        encoded = await self._encoders.encode(order, deadline)
        origin = await asyncio.to_thread(origin_of, order)
        drawing = Drawing(uuid.uuid4().hex, order, encoded, origin, deadline, watch)
        pictures = [asyncio.create_task(self._picture(drawing, image)) for image in range(order.request.n)]
        try:
            drawn = await asyncio.gather(*pictures)
        finally:
            # where one picture fails nobody will see the others
            for picture in pictures:
                picture.cancel()
        if order.shadow is not None:
            self._shadows.start(order.shadow, [one.shown for one in drawn])
        span = clock.span("graph", *held, *encoded.spans, *(one.span for one in drawn), replica=self._replica)
        export(span)
        pictures_drawn = tuple(one.picture for one in drawn)
        return Drawn(pictures_drawn, *drawing.truncated, text_tokens=sum(encoded.told.tokens), span=span)

    async def _picture(self, drawing: Drawing, image: int) -> _DrawnPicture:
        order, watch = drawing.order, Stopwatch()
        # what it waited for; where texts are encoded again that is part of its walk
        encoded = drawing.encoded.spans
        request = order.request.picture(image)
        latents, walks = await self._passes.walk(drawing, image)
        drawing.deadline.require("after all steps")
        # beside the decoding, which takes longer
        keeping = asyncio.create_task(self._keep(drawing, request, latents))
        try:
            decoding = Stopwatch()
            made = await self._decoder.picture(latents, request.tiling, order.pins, order.fallback, drawing.deadline)
            decode = decoding.span(Kind.VAE_DECODER, *made.spans, stage=Kind.VAE_DECODER)
            prompts = self._settings.write_prompts
            metadata = describe(
                request, order.pins, made.decoder, prompts=prompts, origin=drawing.origin, beside=order.beside
            )
            writing = Stopwatch()
            data = await asyncio.to_thread(finished_picture, made.pixels, order, metadata)
            file = writing.span("file", bytes=len(data))
            kept, keep = await keeping
        finally:
            keeping.cancel()
        parts = (*walks, decode, file) if keep is None else (*walks, decode, file, keep)
        span = watch.span("picture", *parts, image=image)
        times = times_of((*encoded, *parts), drawing.deadline.waited_s())
        picture = Picture(data, request.seed, request.subseed, made.decoder, kept, times)
        return _DrawnPicture(picture, Shown(latents, request.tiling, made), span)

    async def _keep(
        self, drawing: Drawing, request: ImageRequest, latents: FloatArray
    ) -> tuple[str | None, Span | None]:
        order = drawing.order
        if not order.store_latents or order.contract is None:
            return None, None
        watch = Stopwatch()
        kept = KeptLatents(
            latents=latents,
            request=request,
            pins=order.pins,
            contract=order.contract,
            prompt_truncated=drawing.truncated[0],
            negative_prompt_truncated=drawing.truncated[1],
            beside=order.beside,
        )
        terms = order.terms
        id_ = await self._keeper.keep(kept, terms.whose)
        return id_, watch.span("keep")
