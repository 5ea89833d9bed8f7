"""The graph's deployment: chains the stages for each request."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from ray.exceptions import ObjectLostError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from components.contract import Kind
from components.messages import EncodedText, FloatArray, Pixels, Snapshot
from services.encoding import describe, encode_picture
from services.messages import Drawn, Order, Picture, Progress, WalkOrder, WalkReport
from services.retries import LOST, Losses, again_where_lost


class GraphSettings(BaseModel):
    """What the graph needs to know: after how many evaluations at most a walk can be gone on with elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_every: int = Field(ge=1)


@dataclass(frozen=True, slots=True)
class _Watch:
    """Who wants to hear of an order's progress: after every step, and every `preview_every` steps with a preview."""

    tell: Callable[[Progress], object]
    preview_every: int


@dataclass(slots=True, eq=False)
class _Drawing:
    """An order under way; `texts` is its conditioning, which goes to the denoisers by reference."""

    id: str
    order: Order
    texts: DeploymentResponse
    arrived: float
    watch: _Watch | None

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
        settings: GraphSettings,
    ) -> None:
        self._text_encoder = text_encoder
        self._denoiser = denoiser.options(stream=True)
        self._vae_decoder = vae_decoder
        self._vae_encoder = vae_encoder
        self._settings = settings

    async def draw(self, order: Order) -> Drawn:
        """Draw all pictures of an order, each as `ImageRequest.picture` gives it alone."""
        return await self._draw(order, None)

    async def watch(self, order: Order, preview_every: int = 0) -> AsyncIterator[Progress | Drawn]:
        """Draw an order and tell of every step; with a preview every `preview_every` steps unless that is 0.

        The last that comes is what `draw` gives.
        """
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        drawing = asyncio.create_task(self._draw(order, _Watch(news.put_nowait, preview_every)))
        drawing.add_done_callback(lambda _: news.put_nowait(None))
        try:
            while (progress := await news.get()) is not None:
                yield progress
            yield await drawing
        finally:
            drawing.cancel()

    async def _draw(self, order: Order, watch: _Watch | None) -> Drawn:
        arrived = time.monotonic()
        response, texts = await again_where_lost(Kind.TEXT_ENCODER, lambda: self._encode(order))
        drawing = _Drawing(uuid.uuid4().hex, order, response, arrived, watch)
        pictures = [asyncio.create_task(self._picture(drawing, image)) for image in range(order.request.n)]
        try:
            drawn = await asyncio.gather(*pictures)
        finally:
            # where one picture fails nobody will see the others
            for picture in pictures:
                picture.cancel()
        return Drawn(tuple(drawn), texts.truncated[0], any(texts.truncated[1:]))

    async def _encode(self, order: Order) -> tuple[DeploymentResponse, EncodedText]:
        # waited for here, so that a replica that stops is this stage's and not one of those that the texts go to
        request = order.request
        response = self._text_encoder.encode.remote(order.pins[Kind.TEXT_ENCODER], request.texts, request.prompt_chunks)
        return response, await response

    async def _picture(self, drawing: _Drawing, image: int) -> Picture:
        order = drawing.order
        request = order.request.picture(image)
        latents = await self._walk(drawing, image)
        pixels = await again_where_lost(Kind.VAE_DECODER, lambda: self._decode(order, latents))
        metadata = describe(request, order.pins)
        data = await asyncio.to_thread(encode_picture, pixels[0], order.encoding, metadata)
        return Picture(data, request.seed, request.subseed)

    async def _decode(self, order: Order, latents: FloatArray) -> Pixels:
        pixels: Pixels = await self._vae_decoder.decode.remote(order.pins[Kind.VAE_DECODER], latents)
        return pixels

    async def _walk(self, drawing: _Drawing, image: int) -> FloatArray:
        """Latents of one picture, from as many replicas as it takes; each goes on where the last report left off."""
        losses = Losses(Kind.DENOISER)
        snapshot = Snapshot()
        while True:
            reports = self._denoiser.walk.remote(self._walk_order(drawing, image, snapshot), drawing.texts)
            ended = False
            try:
                async for report in reports:
                    snapshot = snapshot.after(report.progress)
                    losses.got_further()
                    _tell(drawing, image, report)
                    if report.latents is not None:
                        ended = True
                        return report.latents
            except LOST as error:
                ended = True
                losses.count()
                if isinstance(error, ObjectLostError):
                    # the texts went with the machine that kept them, and every other denoiser would miss them too
                    drawing.texts, _ = await again_where_lost(Kind.TEXT_ENCODER, lambda: self._encode(drawing.order))
            finally:
                # whoever leaves before the end wants no more of it
                if not ended:
                    reports.cancel()

    def _walk_order(self, drawing: _Drawing, image: int, snapshot: Snapshot) -> WalkOrder:
        order, watch = drawing.order, drawing.watch
        return WalkOrder(
            order=drawing.id,
            pin=order.pins[Kind.DENOISER],
            request=order.request.picture(image),
            terms=order.terms,
            waited_s=drawing.waited_s(),
            snapshot=snapshot,
            report_every=self._settings.snapshot_every if watch is None else 1,
            preview_every=0 if watch is None else watch.preview_every,
        )


def _tell(drawing: _Drawing, image: int, report: WalkReport) -> None:
    if drawing.watch is not None:
        drawing.watch.tell(Progress(image, report.step, report.steps, report.preview))
