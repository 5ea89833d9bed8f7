"""The graph's deployment: chains the stages for each request."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field
from ray.exceptions import ObjectLostError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from components.contract import Kind
from components.messages import EncodedText, FloatArray, ImageRequest, LatentDistribution
from pipeline.story.origin import Origin
from services.calls import Answered, answered
from services.decoding import PictureDecoder
from services.encoding import describe, encode_picture, origin_of
from services.errors import DeadlineExceededError
from services.latents.keeper import Keeper
from services.latents.records import Compared, CompareOrder, DecodeOrder, KeptLatents
from services.latents.views import LatentViews
from services.messages import Drawn, Order, Picture, Progress, Queued, StageTimes, WalkOrder, WalkReport
from services.metrics.graph import GraphMetrics
from services.retries import LOST, Losses, again_where_lost
from services.shadows import Shadows, Shown

Result = TypeVar("Result")

# short runs follow each other faster than their reports come
_LEAST_APART = 4


class GraphSettings(BaseModel):
    """What the graph needs to know.

    After how many evaluations at most a walk can be gone on with elsewhere, the pictures of how many answers are
    decoded once more at a time where a candidate is tried, and whether pictures' files hold the prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_every: int = Field(ge=1)
    shadows: int = Field(ge=0)
    write_prompts: bool = True


@dataclass(frozen=True, slots=True)
class _Watch:
    """Who wants to hear of an order's progress: after every step, and every `preview_every` steps with a preview."""

    tell: Callable[[Progress | Queued], object]
    preview_every: int


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """What denoisers are given by reference: the conditioning of the texts, and the latents of the source if any."""

    texts: DeploymentResponse
    source: DeploymentResponse | None


@dataclass(slots=True, eq=False)
class _Drawing:
    """An order under way, and what it starts from; `truncated` says whether the prompt and the negative were cut."""

    id: str
    order: Order
    encoded: _Encoded
    truncated: tuple[bool, bool]
    origin: Origin
    encoder_s: tuple[float, float | None]
    arrived: float
    watch: _Watch | None

    def tell(self, image: int, report: WalkReport) -> None:
        """Pass on what a walk reports, but that it is about to risk something."""
        if self.watch is None:
            return
        if report.position:
            self.watch.tell(Queued(image, report.position))
        elif report.progress.estimates or report.latents is not None:
            self.watch.tell(Progress(image, report.step, report.steps, report.preview))

    def require_time(self) -> None:
        """Refuse to go on once the deadline has passed.

        Raises:
            DeadlineExceededError: it has.
        """
        deadline_s = self.order.terms.deadline_s
        if deadline_s is not None and self.waited_s() >= deadline_s:
            raise DeadlineExceededError(f"deadline_s={deadline_s:g}: has passed after all steps", "deadline_s")

    def waited_s(self) -> float:
        """Seconds since the order came."""
        return time.monotonic() - self.arrived


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
        self._text_encoder = text_encoder
        self._denoiser = denoiser.options(stream=True)
        self._vae_encoder = vae_encoder
        self._settings = settings
        self._metrics = GraphMetrics()
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
        return await self._views.decode(order)

    async def compare(self, order: CompareOrder) -> Compared:
        """The pictures of kept latents by two versions, and how they differ."""
        return await self._views.compare(order)

    async def _draw(self, order: Order, watch: _Watch | None) -> Drawn:
        arrived = time.monotonic()
        encoded, texts, encoder_s = await self._encode(order)
        origin = await asyncio.to_thread(origin_of, order.source)
        truncated = (texts.truncated[0], any(texts.truncated[1:]))
        drawing = _Drawing(uuid.uuid4().hex, order, encoded, truncated, origin, encoder_s, arrived, watch)
        pictures = [asyncio.create_task(self._picture(drawing, image)) for image in range(order.request.n)]
        try:
            drawn = await asyncio.gather(*pictures)
        finally:
            # where one picture fails nobody will see the others
            for picture in pictures:
                picture.cancel()
        if order.shadow is not None:
            self._shadows.start(order.shadow, [shown for _, shown in drawn])
        return Drawn(tuple(picture for picture, _ in drawn), *truncated, text_tokens=sum(texts.tokens))

    async def _encode(self, order: Order) -> tuple[_Encoded, EncodedText, tuple[float, float | None]]:
        # waited for here, so that a replica that stops is that stage's and not one of those that this goes to
        encode_texts = _timed(again_where_lost(Kind.TEXT_ENCODER, self._metrics, lambda: self._encode_texts(order)))
        encode_source = _timed(again_where_lost(Kind.VAE_ENCODER, self._metrics, lambda: self._encode_source(order)))
        ours, theirs = asyncio.create_task(encode_texts), asyncio.create_task(encode_source)
        try:
            (texts, texts_s), (source, source_s) = await asyncio.gather(ours, theirs)
        finally:
            # where one fails nobody wants the other
            ours.cancel()
            theirs.cancel()
        return _Encoded(texts[0], source), texts[1], (texts_s, None if source is None else source_s)

    async def _encode_texts(self, order: Order) -> tuple[DeploymentResponse, EncodedText]:
        request, pin = order.request, order.pins[Kind.TEXT_ENCODER]
        response = self._text_encoder.encode.remote(
            pin,
            request.texts,
            request.prompt_chunks,
            request.weighting,
            request.clip_skip,
        )
        answer: Answered[EncodedText] = await answered(response)
        size = sum(array.nbytes for array in answer.result.arrays.values())
        self._metrics.answered(Kind.TEXT_ENCODER, pin, size, answer.queued_s)
        return response, answer.result

    async def _encode_source(self, order: Order) -> DeploymentResponse | None:
        if order.source is None:
            return None
        pin = order.pins[Kind.VAE_ENCODER]
        response = self._vae_encoder.encode.remote(pin, order.source.pixels)
        answer: Answered[LatentDistribution] = await answered(response)
        size = sum(array.nbytes for array in answer.result)
        self._metrics.answered(Kind.VAE_ENCODER, pin, size, answer.queued_s)
        return response

    async def _picture(self, drawing: _Drawing, image: int) -> tuple[Picture, Shown]:
        order = drawing.order
        request = order.request.picture(image)
        (latents, queued_s), walk_s = await _timed(self._walk(drawing, image))
        drawing.require_time()
        # beside the decoding, which takes longer
        keeping = asyncio.create_task(self._keep(drawing, request, latents))
        try:
            made, decoder_s = await _timed(self._decoder.picture(latents, order.pins, order.fallback))
            prompts = self._settings.write_prompts
            metadata = describe(request, order.pins, made.decoder, prompts=prompts, origin=drawing.origin)
            data, file_s = await _timed(asyncio.to_thread(encode_picture, made.pixels, order.encoding, metadata))
            kept = await keeping
        finally:
            keeping.cancel()
        times = StageTimes(
            text_encoder_s=drawing.encoder_s[0],
            vae_encoder_s=drawing.encoder_s[1],
            queued_s=queued_s,
            denoiser_s=max(0.0, walk_s - queued_s),
            vae_decoder_s=decoder_s,
            file_s=file_s,
            total_s=drawing.waited_s(),
        )
        picture = Picture(data, request.seed, request.subseed, made.decoder, kept, times)
        return picture, Shown(latents, made)

    async def _keep(self, drawing: _Drawing, request: ImageRequest, latents: FloatArray) -> str | None:
        order = drawing.order
        if not order.store_latents or order.contract is None:
            return None
        kept = KeptLatents(
            latents=latents,
            request=request,
            pins=order.pins,
            contract=order.contract,
            prompt_truncated=drawing.truncated[0],
            negative_prompt_truncated=drawing.truncated[1],
        )
        terms = order.terms
        return await self._keeper.keep(kept, terms.tenant if terms.owner is None else terms.owner)

    async def _walk(self, drawing: _Drawing, image: int) -> tuple[FloatArray, float]:
        """Latents of one picture, from as many replicas as it takes; each goes on where the last report left off.

        Beside them come the seconds that it waited for its first step at the last of these replicas.
        """
        losses = Losses(Kind.DENOISER, self._metrics)
        order = self._walk_order(drawing, image)
        while True:
            reports = self._denoiser.walk.remote(order, drawing.encoded.texts, drawing.encoded.source)
            try:
                async for report in reports:
                    losses.told(report.at_risk)
                    order = replace(order, snapshot=order.snapshot.after(report.progress))
                    if len(order.snapshot.estimates) >= order.alone_until:
                        losses.cleared()
                    drawing.tell(image, report)
                    if report.latents is not None:
                        self._metrics.answered(Kind.DENOISER, order.pin, report.latents.nbytes)
                        return report.latents, report.queued_s
                losses.count()
            except LOST as error:
                # a replica that only seemed to be gone must not go on with it too
                reports.cancel()
                encoded_lost = isinstance(error, ObjectLostError)
                if encoded_lost:
                    losses.told(at_risk=False)
                losses.count()
                if encoded_lost:
                    # it went with the machine that kept it, and every other denoiser would miss it too
                    drawing.encoded, *_ = await self._encode(drawing.order)
            except BaseException:
                # whoever leaves before the end wants no more of it
                reports.cancel()
                raise
            # where it stopped the next report may just have been on its way
            past = len(order.snapshot.estimates) + max(order.report_every, _LEAST_APART) + 2
            order = replace(order, waited_s=drawing.waited_s(), admitted=True, alone_until=past)

    def _walk_order(self, drawing: _Drawing, image: int) -> WalkOrder:
        order, watch = drawing.order, drawing.watch
        return WalkOrder(
            order=drawing.id,
            pin=order.pins[Kind.DENOISER],
            request=order.request.picture(image),
            terms=order.terms,
            waited_s=drawing.waited_s(),
            report_every=self._settings.snapshot_every if watch is None else 1,
            preview_every=0 if watch is None else watch.preview_every,
            tell_position=watch is not None,
            mask=None if order.source is None else order.source.mask,
        )


async def _timed(work: Awaitable[Result]) -> tuple[Result, float]:
    """What comes of some work, and the seconds until it came."""
    begun = time.monotonic()
    return await work, time.monotonic() - begun
