"""The graph's deployment: chains the stages for each request."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field
from ray.exceptions import ObjectLostError
from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import FloatArray, ImageRequest
from pipeline.story.origin import Origin
from services.calls import taken
from services.deadlines import Deadline
from services.decoding import PictureDecoder
from services.encoders import Encoded, Encoders
from services.encoding import describe, encode_picture, origin_of
from services.latents.keeper import Keeper
from services.latents.records import Compared, CompareOrder, DecodeOrder, KeptLatents
from services.latents.views import LatentViews
from services.messages import Drawn, Order, Picture, Progress, Queued, WalkOrder, WalkReport
from services.metrics.graph import GraphMetrics
from services.replica import application, whereabouts
from services.retries import LOST, Losses
from services.shadows import Shadows, Shown
from services.stage_times import times_of
from services.standing import Standings
from services.timelines.spans import Span, Stopwatch
from services.timelines.tracing import export
from services.waking import Waking

# short runs follow each other faster than their reports come
_LEAST_APART = 4

# for Serve's controller, which no request needs
_PATIENCE_S = 0.5


class GraphSettings(BaseModel):
    """What the graph needs to know.

    After how many evaluations at most a walk can be gone on with elsewhere, the pictures of how many answers are
    decoded once more at a time where a candidate is tried, how many requests are held for a stage without replicas,
    and whether pictures' files hold the prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_every: int = Field(ge=1)
    shadows: int = Field(ge=0)
    max_held: int = Field(64, ge=1)
    write_prompts: bool = True


@dataclass(frozen=True, slots=True)
class _Watch:
    """Who wants to hear of an order's progress: after every step, and every `preview_every` steps with a preview."""

    tell: Callable[[Progress | Queued], object]
    preview_every: int


@dataclass(slots=True, eq=False)
class _Drawing:
    """An order under way, and what it starts from."""

    id: str
    order: Order
    encoded: Encoded
    origin: Origin
    deadline: Deadline
    watch: _Watch | None

    @property
    def truncated(self) -> tuple[bool, bool]:
        """Whether the prompt was cut, and whether the negative prompt was."""
        cut = self.encoded.told.truncated
        return cut[0], any(cut[1:])

    def tell(self, image: int, report: WalkReport) -> None:
        """Pass on what a walk reports, but that it is about to risk something."""
        if self.watch is None:
            return
        if report.position:
            self.watch.tell(Queued(image, report.position))
        elif report.progress.estimates or report.latents is not None:
            self.watch.tell(Progress(image, report.step, report.steps, report.preview))


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
        denoiser: DeploymentHandle,
        vae_decoder: DeploymentHandle,
        vae_encoder: DeploymentHandle,
        rollout: DeploymentHandle,
        latents: DeploymentHandle,
        settings: GraphSettings,
    ) -> None:
        self._denoiser = denoiser.options(stream=True)
        self._settings = settings
        self._replica, _ = whereabouts()
        self._metrics = GraphMetrics()
        stages = {
            Kind.TEXT_ENCODER: text_encoder,
            Kind.DENOISER: denoiser,
            Kind.VAE_DECODER: vae_decoder,
            Kind.VAE_ENCODER: vae_encoder,
        }
        self._waking = Waking(stages, Standings(application(), _PATIENCE_S), settings.max_held, self._metrics)
        self._encoders = Encoders(text_encoder, vae_encoder, self._metrics)
        self._decoder = PictureDecoder(vae_decoder, self._metrics)
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
        drawing = asyncio.create_task(self._draw(order, _Watch(news.put_nowait, preview_every)))
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

    async def _draw(self, order: Order, watch: _Watch | None) -> Drawn:
        deadline, clock = Deadline(order.terms.deadline_s), Stopwatch()
        source = () if order.source is None else (Kind.VAE_ENCODER,)
        stages = (Kind.TEXT_ENCODER, *source, Kind.DENOISER, Kind.VAE_DECODER)
        held = (clock.span("held"),) if await self._waking.awake(stages, deadline) else ()
        encoded = await self._encoders.encode(order, deadline)
        origin = await asyncio.to_thread(origin_of, order.source)
        drawing = _Drawing(uuid.uuid4().hex, order, encoded, origin, deadline, watch)
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

    async def _picture(self, drawing: _Drawing, image: int) -> _DrawnPicture:
        order, watch = drawing.order, Stopwatch()
        # what it waited for; where texts are encoded again that is part of its walk
        encoded = drawing.encoded.spans
        request = order.request.picture(image)
        latents, walk = await self._walk(drawing, image)
        drawing.deadline.require("after all steps")
        # beside the decoding, which takes longer
        keeping = asyncio.create_task(self._keep(drawing, request, latents))
        try:
            decoding = Stopwatch()
            made = await self._decoder.picture(latents, order.pins, order.fallback, drawing.deadline)
            decode = decoding.span(Kind.VAE_DECODER, made.span, stage=Kind.VAE_DECODER)
            prompts = self._settings.write_prompts
            metadata = describe(request, order.pins, made.decoder, prompts=prompts, origin=drawing.origin)
            writing = Stopwatch()
            data = await asyncio.to_thread(encode_picture, made.pixels, order.encoding, metadata)
            file = writing.span("file", bytes=len(data))
            kept, keep = await keeping
        finally:
            keeping.cancel()
        parts = (walk, decode, file) if keep is None else (walk, decode, file, keep)
        span = watch.span("picture", *parts, image=image)
        times = times_of((*encoded, *parts), drawing.deadline.waited_s())
        picture = Picture(data, request.seed, request.subseed, made.decoder, kept, times)
        return _DrawnPicture(picture, Shown(latents, made), span)

    async def _keep(
        self, drawing: _Drawing, request: ImageRequest, latents: FloatArray
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
        )
        terms = order.terms
        id_ = await self._keeper.keep(kept, terms.whose)
        return id_, watch.span("keep")

    async def _walk(self, drawing: _Drawing, image: int) -> tuple[FloatArray, Span]:
        """Latents of one picture, from as many replicas as it takes; each goes on where the last report left off.

        Beside them comes the span of all of it, made of what each of these replicas had of it.
        """
        watch, parts = Stopwatch(), []
        losses = Losses(Kind.DENOISER, self._metrics)
        order = self._walk_order(drawing, image)
        while True:
            attempt, encoded_lost = Stopwatch(), False
            reports = self._denoiser.walk.remote(order, drawing.encoded.texts, drawing.encoded.source)
            try:
                await taken(reports, drawing.deadline)
                async for report in reports:
                    losses.told(report.at_risk)
                    order = replace(order, snapshot=order.snapshot.after(report.progress))
                    if len(order.snapshot.estimates) >= order.alone_until:
                        losses.cleared()
                    drawing.tell(image, report)
                    if report.latents is not None:
                        self._metrics.answered(Kind.DENOISER, order.pin, report.latents.nbytes)
                        parts.append(_span_of(report))
                        return report.latents, watch.span(Kind.DENOISER, *parts, stage=Kind.DENOISER)
                losses.count()
            except LOST as error:
                # a replica that only seemed to be gone must not go on with it too
                reports.cancel()
                encoded_lost = isinstance(error, ObjectLostError)
                if encoded_lost:
                    losses.told(at_risk=False)
                losses.count()
            except BaseException:
                # whoever leaves before the end wants no more of it
                reports.cancel()
                raise
            parts.append(attempt.span("lost", stage=Kind.DENOISER, component=order.pin))
            if encoded_lost:
                # it went with the machine that kept it, and every other denoiser would miss it too
                drawing.encoded = await self._encoders.encode(drawing.order, drawing.deadline)
                parts += drawing.encoded.spans
            # where it stopped the next report may just have been on its way
            past = len(order.snapshot.estimates) + max(order.report_every, _LEAST_APART) + 2
            order = replace(order, waited_s=drawing.deadline.waited_s(), admitted=True, alone_until=past)

    def _walk_order(self, drawing: _Drawing, image: int) -> WalkOrder:
        order, watch = drawing.order, drawing.watch
        return WalkOrder(
            order=drawing.id,
            pin=order.pins[Kind.DENOISER],
            request=order.request.picture(image),
            terms=order.terms,
            waited_s=drawing.deadline.waited_s(),
            report_every=self._settings.snapshot_every if watch is None else 1,
            preview_every=0 if watch is None else watch.preview_every,
            tell_position=watch is not None,
            mask=None if order.source is None else order.source.mask,
        )


def _span_of(report: WalkReport) -> Span:
    assert report.span is not None, "the last report has it"
    return report.span
