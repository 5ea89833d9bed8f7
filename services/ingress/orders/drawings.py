"""Having an admitted request drawn, and its answer: whole, or as a stream of events while it is drawn."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeAlias

from fastapi import Request, Response

from components.reference import kind_of
from services.errors import UnavailableError
from services.failures import known
from services.ingress.http.body import JSON_TYPE
from services.ingress.http.media_types import MEDIA_TYPES
from services.ingress.http.streaming import HEARTBEAT, HEARTBEAT_S, EventStream, Paced, error_event, event
from services.ingress.orders.events import Events, preview_every
from services.ingress.orders.fields import Form, Streaming
from services.ingress.orders.links import LinksFace
from services.ingress.orders.pinning import Pinning
from services.ingress.wire.answers import answer_of, first_headers_of, headers_of
from services.ingress.wire.schemas import EventPrefix
from services.messages import Drawn, Order, Progress, Queued
from services.metrics.ingress import IngressMetrics
from services.outcomes import outcomes_of
from services.timelines.memory import Timelines
from services.timelines.recordings import Recording

News: TypeAlias = Progress | Queued | Drawn


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """An admitted request; `chosen` says whether it names versions of its own, `events` how its events are called.

    Where a job draws it, it is `kept`: how its versions did is told by whoever draws jobs. Its `recording` becomes its
    timeline.
    """

    order: Order
    form: Form
    bundle: str
    chosen: bool
    events: EventPrefix = "image_generation"
    kept: bool = False
    recording: Recording = field(default_factory=Recording)


@dataclass(frozen=True, slots=True)
class Drawings:
    """What drawing needs of the rest of the server.

    `draw` makes an order's pictures; `watch` does too, and tells of every step, with a preview every so many steps.
    """

    draw: Callable[[Order], Awaitable[Drawn]]
    watch: Callable[[Order, int], AsyncIterator[News]]
    links: LinksFace
    pinning: Pinning
    metrics: IngressMetrics
    timelines: Timelines
    heartbeat_s: float = HEARTBEAT_S

    async def drawn(
        self, asked: Asked, told: Callable[[Progress], object] | None = None, preview_every: int = 0
    ) -> Drawn:
        """The pictures; `told` hears of every step, with a preview every so many steps unless that is 0."""
        try:
            drawn = await (self.draw(asked.order) if told is None else self._followed(asked.order, told, preview_every))
        except Exception as error:
            self._ended(asked, error)
            raise
        self._ended(asked, drawn)
        return drawn

    async def whole(self, asked: Asked, request: Request) -> Response:
        """The answer once everything is drawn."""
        order, form = asked.order, asked.form
        drawn = await self.drawn(asked)
        headers = headers_of(order, drawn)
        if form.raw:
            picture = drawn.pictures[0]
            asked.recording.lap("answer")
            return Response(picture.data, media_type=MEDIA_TYPES[order.encoding.format], headers=headers)
        urls = await self.links.urls(request, drawn.pictures, order.encoding.format) if form.links else None
        content = answer_of(order, drawn, asked.bundle, form.quality, urls).model_dump_json()
        asked.recording.lap("answer")
        return Response(content, media_type=JSON_TYPE, headers=headers)

    async def streamed(self, asked: Asked, streaming: Streaming, held: ExitStack) -> EventStream:
        """The answer as events; it begins with the first news, or when it was quiet for a time.

        What goes wrong before is raised. The stream lets go of what is `held` when it ends.
        """
        news = Paced(self._news(asked.order, streaming), self.heartbeat_s)
        held.callback(news.close)
        try:
            first = await anext(news)
        except Exception as error:
            self._ended(asked, error)
            raise
        events = Events(asked.order, streaming, asked.form.quality, asked.events)
        return EventStream(self._told(asked, events, first, news), first_headers_of(asked.order), held.pop_all())

    async def _followed(self, order: Order, told: Callable[[Progress], object], preview_every: int) -> Drawn:
        async for one in self.watch(order, preview_every):
            if isinstance(one, Drawn):
                return one
            if isinstance(one, Progress):
                told(one)
        raise UnavailableError("the drawing was broken off; try again")

    async def _news(self, order: Order, streaming: Streaming) -> AsyncIterator[News]:
        if not streaming.partial_images and not streaming.progress:
            # nobody wants to hear of the steps
            yield await self.draw(order)
            return
        async for one in self.watch(order, preview_every(order.request.walked, streaming.partial_images)):
            yield one

    async def _told(self, asked: Asked, events: Events, first: News | None, news: Paced[News]) -> AsyncGenerator[bytes]:
        one = first
        try:
            while not isinstance(one, Drawn):
                if one is None:
                    yield HEARTBEAT
                elif isinstance(one, Queued):
                    for place in events.of_queued(one):
                        yield event(place.type, place)
                else:
                    for told in await events.of_step(one):
                        yield event(told.type, told)
                one = await anext(news)
        except Exception as error:  # noqa: BLE001 - the status is out already
            self._ended(asked, error)
            yield error_event(error)
            return
        self._ended(asked, one)
        for picture in events.of_pictures(one):
            yield event(picture.type, picture)
        asked.recording.lap("answer")

    def _ended(self, asked: Asked, end: Drawn | Exception) -> None:
        self._record(asked, end)
        outcomes = [] if asked.kept else outcomes_of(asked.order, end)
        if not asked.chosen:
            # what a caller put together says nothing for or against a canary
            self.pinning.ended(outcomes)
        for one in outcomes:
            outcome = "non_finite" if one.non_finite else "error" if one.error else "ok"
            labels = {"stage": kind_of(one.pin.name).value, "version": str(one.pin), "outcome": outcome}
            self.metrics.version_requests.inc(tags=labels)
        if isinstance(end, Exception):
            return
        self.metrics.images.inc(len(end.pictures), tags={"format": asked.order.encoding.format})
        if end.prompt_truncated:
            self.metrics.truncated_prompts.inc(tags={"field": "prompt"})
        if end.negative_prompt_truncated:
            self.metrics.truncated_prompts.inc(tags={"field": "negative_prompt"})

    def _record(self, asked: Asked, end: Drawn | Exception) -> None:
        order, recording = asked.order, asked.recording
        if isinstance(end, Exception):
            error = known(end)
            recording.facts |= {"status": int(error.status), "error": error.code or error.type}
            recording.lap("drawing")
        else:
            recording.facts |= {"status": 200, "images": len(end.pictures)}
            recording.lap("drawing", *(() if end.span is None else (end.span,)))
        request = order.request
        recording.facts |= {"width": request.width, "height": request.height, "steps": request.steps}
        self.timelines.keep(order.id, order.terms.whose, recording)
