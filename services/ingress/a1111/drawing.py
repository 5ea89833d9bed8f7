"""A1111's text to image and image to image."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response

from components.contract import Kind
from pipeline.errors import RequestError
from services.errors import FieldError
from services.ingress.a1111.answers import DrawnAnswer, encoded, info_of, parameters_of
from services.ingress.a1111.honoured import require_honoured
from services.ingress.a1111.inpainting import InitImage
from services.ingress.a1111.options import Options, Settings, settings_with
from services.ingress.a1111.prompts import require_read
from services.ingress.a1111.routes import json_body
from services.ingress.a1111.schemas import CHOICES, SECRET, DrawingBody, Img2ImgBody, OptionsBody, Txt2ImgBody
from services.ingress.a1111.stories import given_with
from services.ingress.a1111.tasks import Task, Tasks
from services.ingress.a1111.translation import (
    batch_size_of,
    batches_of,
    generation_of,
    renamed,
)
from services.ingress.access.callers import caller
from services.ingress.http.body import (
    JSON_TYPE,
    MAX_BODY_BYTES,
    MAX_PICTURES_BYTES,
    parse_object,
    read_body,
    require_json_type,
)
from services.ingress.http.multipart import Uploads
from services.ingress.orders.drawings import Asked
from services.ingress.orders.events import preview_every
from services.ingress.orders.orders import Orders
from services.ingress.wire.answers import headers_of
from services.ingress.wire.bodies import typed
from services.keys.keyring import Caller
from services.messages import Drawn, Order

# of a picture on its way, for whoever looks at its progress
_PREVIEWS = 5


@dataclass(frozen=True, slots=True)
class Drawing:
    """What drawing for A1111's clients needs of the rest of the server."""

    orders: Orders
    uploads: Uploads
    tasks: Tasks
    options: Options

    def add_routes(self, router: APIRouter) -> None:
        """Add the routes to the face's."""
        for path, endpoint, model in (
            ("/txt2img", self.txt2img, Txt2ImgBody),
            ("/img2img", self.img2img, Img2ImgBody),
        ):
            router.add_api_route(
                path,
                endpoint,
                methods=["POST"],
                response_class=Response,
                responses={200: {"model": DrawnAnswer, "description": "the pictures"}},
                openapi_extra=json_body(model),
            )

    async def txt2img(self, request: Request) -> Response:
        """Draw pictures from a prompt."""
        # of the moment when the request came
        settings = self.options.of(caller(request))
        given = self._given(parse_object(await _content(request, MAX_BODY_BYTES)))
        body = typed(Txt2ImgBody, given, SECRET, CHOICES)
        with ExitStack() as held:
            return await self._answer(body, given, settings, caller(request), held)

    async def img2img(self, request: Request) -> Response:
        """Draw pictures from a prompt and a picture: all of it anew, or where a mask says so."""
        settings = self.options.of(caller(request))
        with ExitStack() as held:
            uploading = held.enter_context(ExitStack())
            uploading.enter_context(self.uploads.taken())
            # so much text keeps the event loop for a while
            parsed = await asyncio.to_thread(parse_object, await _content(request, MAX_PICTURES_BYTES))
            given = self._given(parsed)
            del parsed
            body = typed(Img2ImgBody, given, SECRET, CHOICES)
            start = await asyncio.to_thread(InitImage.of, body, uploading, self.orders.rules.max_source_pixels)
            if not body.include_init_images:
                # the texts of pictures are longer than what they become
                body = body.model_copy(update={"init_images": None, "mask": None})
                given = {name: value for name, value in given.items() if name not in ("init_images", "mask")}
            return await self._answer(body, given, settings, caller(request), held, start)

    def _given(self, parsed: dict[str, Any]) -> dict[str, Any]:
        return given_with(parsed, self.orders.pinning.record.live.bundle)

    async def _answer(
        self,
        body: DrawingBody,
        given: dict[str, Any],
        settings: Settings,
        who: Caller,
        held: ExitStack,
        start: InitImage | None = None,
    ) -> Response:
        require_honoured(body)
        live = self.orders.pinning.record.live
        ours = settings_with(body.override_settings or OptionsBody(), settings, live, "override_settings.")
        require_read(body, ours.weighting)
        translated = generation_of(body, ours, live.contracts[Kind.DENOISER])
        size, batches = _batches_of(body)
        task = held.enter_context(self.tasks.begun(body.force_task_id, who.tenant, batches))
        try:
            asked = await self.orders.asked(translated, "json", who, held, brought=start)
        except FieldError as error:
            raise renamed(error) from None
        drawn = await self._batches(asked, size, task)
        answer = DrawnAnswer(
            images=encoded([one.data for one in drawn.pictures]) if body.send_images is not False else [],
            parameters=parameters_of(body, given),
            info=info_of(asked.order, drawn.pictures, size, asked.bundle),
        )
        return Response(answer.model_dump_json(), media_type=JSON_TYPE, headers=headers_of(asked.order, drawn))

    async def _batches(self, asked: Asked, size: int, task: Task) -> Drawn:
        """The pictures of all batches that nobody broke off."""
        orders = batches_from(asked.order, size)
        drawn = []
        for batch, order in enumerate(orders):
            if task.interrupted:
                break
            drawing = self.orders.drawings.drawn(replace(asked, order=order), task.tell, _preview_every(order))
            if (one := await task.batch_of(batch, order, drawing)) is not None:
                drawn.append(one)
        return Drawn(
            tuple(picture for one in drawn for picture in one.pictures),
            any(one.prompt_truncated for one in drawn),
            any(one.negative_prompt_truncated for one in drawn),
        )


def batches_from(order: Order, size: int) -> list[Order]:
    """An order taken apart into orders of `size` pictures, which are drawn as they are in the whole."""
    request = order.request
    return [
        replace(order, request=replace(request.picture(first), n=min(size, request.n - first)))
        for first in range(0, request.n, size)
    ]


async def _content(request: Request, limit: int) -> bytes:
    require_json_type(request.headers.get("content-type"))
    return await read_body(request.stream(), request.headers.get("content-length"), limit)


def _batches_of(body: DrawingBody) -> tuple[int, int]:
    try:
        return batch_size_of(body), batches_of(body)
    except RequestError as error:
        raise FieldError(error.message, error.field) from None


def _preview_every(order: Order) -> int:
    has_previews = order.contract is not None and order.contract.preview is not None
    return preview_every(order.request.walked, _PREVIEWS) if has_previews else 0
