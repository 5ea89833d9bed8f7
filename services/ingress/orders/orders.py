"""From a typed body to its answer: pinned to versions, checked by them, admitted, and drawn."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from fastapi import Request, Response

from components.contract import Kind
from pipeline.errors import RequestError
from pipeline.request import RequestRules
from services.errors import FieldError
from services.ingress.access.callers import caller
from services.ingress.http.media_types import Wanted, wanted
from services.ingress.orders.admission import Admission
from services.ingress.orders.drawings import Asked, Drawings
from services.ingress.orders.fields import check_form, order_of, require_model
from services.ingress.orders.guides import Guides
from services.ingress.orders.naming import named, with_image_encoder
from services.ingress.orders.pinning import Pinning, choices
from services.ingress.orders.sources import Undecoded
from services.ingress.wire.requests import GenerationBody
from services.ingress.wire.schemas import EventPrefix
from services.keys.keyring import Caller
from services.messages import Order
from services.timelines.recordings import Recording


@dataclass(frozen=True, slots=True)
class Orders:
    """What an order takes on its way through the ingress; one that is to go on without its caller is `kept`."""

    pinning: Pinning
    rules: RequestRules
    drawings: Drawings
    request_id: Callable[[], str]
    admission: Admission
    kept: Callable[[Asked, GenerationBody, Request, ExitStack], Awaitable[Response]]

    async def answer(
        self,
        body: GenerationBody,
        request: Request,
        brought: Undecoded | None = None,
        events: EventPrefix = "image_generation",
        guides: Guides | None = None,
    ) -> Response:
        """Draw what a body asks for, from the picture that was `brought` if one was; `events` names those of a stream.

        `guides` are what was taken out of the body.

        Raises:
            ServingError: a field is outside its limits, there is no room, or it could not be drawn.
        """
        accept = wanted(request.headers.get("accept"), stream=bool(body.stream))
        with ExitStack() as held:
            asked = await self.asked(body, accept, caller(request), held, brought=brought, events=events, guides=guides)
            if body.on_disconnect == "keep":
                return await self.kept(asked, body, request, held)
            if asked.form.streaming is not None:
                return await self.drawings.streamed(asked, asked.form.streaming, held)
            return await self.drawings.whole(asked, request)

    async def asked(
        self,
        body: GenerationBody,
        accept: Wanted,
        who: Caller,
        held: ExitStack,
        *,
        brought: Undecoded | None = None,
        events: EventPrefix = "image_generation",
        guides: Guides | None = None,
    ) -> Asked:
        """What a caller's body asks for, checked and pinned; its place among those admitted is `held`.

        Raises:
            ServingError: a field is outside its limits, or there is no room.
        """
        recording = Recording()
        bundle = self.pinning.record.live.bundle
        require_model(body, bundle)
        chosen = choices(body.components or {})
        form = check_form(body, accept, self.rules, who)
        guides = Guides() if guides is None else guides
        order, request_id = None, self.request_id()
        if Kind.DENOISER not in chosen:
            # its limits are known here, so that what they refuse takes nobody's time or place
            known = self.pinning.live(request_id) if chosen else self.pinning.pin(request_id, body.user or "")
            order = order_of(body, form, known, self.rules, request_id, brought, guides)
        held.enter_context(self.admission.admitted(form.images, who))
        if order is None or chosen:
            pinned = await self.pinning.choose(request_id, chosen)
            order = order_of(body, form, pinned, self.rules, request_id, brought, guides)
        order = await self.with_guides(order, guides)
        if brought is not None:
            order = await self.with_source(order, brought)
        recording.lap("admission")
        return Asked(order, form, bundle, bool(chosen), events, recording=recording)

    async def with_source(self, order: Order, brought: Undecoded) -> Order:
        """An order that starts from what was brought, which is let go of.

        Raises:
            FieldError: a picture has too many pixels, or cannot be read.
        """
        try:
            source = await asyncio.to_thread(brought.source, order, self.rules.max_source_pixels)
        except RequestError as error:
            raise FieldError(error.message, error.field) from None
        brought.let_go(source)
        return replace(order, source=source, laid_size=None if source.overlay is None else source.overlay.size)

    async def with_guides(self, order: Order, guides: Guides) -> Order:
        """An order that is guided so, by exact versions; the pictures are let go of.

        Raises:
            FieldError: what it names is not to be had or does not fit, or a picture has too many pixels or cannot be
                read.
            UnavailableError: nobody can say just now which version it names.
        """
        if not guides and not order.request.loras:
            return order
        assert order.contract is not None, "an order that is drawn has its denoiser's contract"
        request, beside = await named(self.pinning, order.request, order.contract)
        pins, how = order.pins, None
        if guides.image_prompts:
            pins, how = await with_image_encoder(self.pinning, order.pins, order.contract)
        most = self.rules.max_source_pixels
        try:
            controls = await asyncio.to_thread(guides.pixels, order, most)
            squares = () if how is None else await asyncio.to_thread(guides.squares, how, most)
        except RequestError as error:
            raise FieldError(error.message, error.field) from None
        guides.let_go()
        return replace(order, request=request, pins=pins, beside=beside, controls=controls, image_prompts=squares)
