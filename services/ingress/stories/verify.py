"""The verification face: a picture is made again by the very versions of its story, and compared pixel by pixel."""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from PIL import Image

from components.contract import Kind
from components.reference import kind_of
from pipeline.errors import RequestError
from pipeline.source_pictures import open_picture, turned_size
from pipeline.story.containers import MAX_FILE_BYTES
from pipeline.story.origin import Origin, PixelsDigest
from pipeline.story.request import request_of
from services.comparison import difference
from services.encoding import origin_of
from services.errors import FieldError
from services.ingress.access.callers import caller
from services.ingress.http.body import JSON_TYPE, read_body
from services.ingress.http.media_types import MEDIA_TYPES
from services.ingress.http.multipart import MULTIPART_TYPE, Uploads, picture_or_form, read_multipart
from services.ingress.orders.drawings import Asked
from services.ingress.orders.fields import check_form, order_of, typed_body
from services.ingress.orders.guides import GUIDING, Guides, file_field, prompt_field, taken_out
from services.ingress.orders.orders import Orders
from services.ingress.orders.sources import DEPTH, IMAGE, MASK, Brought
from services.ingress.stories.inspect import made_from
from services.ingress.stories.retold import Retold, retold
from services.ingress.stories.schemas import Verification, VerificationBody, VerifiedComponent
from services.ingress.wire.answers import ERRORS, PICTURE, first_headers_of, pin_of
from services.ingress.wire.bodies import one_of_each, typed
from services.messages import Order, Picture
from services.timelines.recordings import Recording

SOURCE = "source"
_FILES = {
    IMAGE: "the picture that is verified",
    SOURCE: "the picture that it was made from, if it was made from one",
    MASK: "the mask that it was made with, if there was one",
    DEPTH: "the depth map that it was made with, if there was one",
    file_field(0): "the control picture that held it, if one did; the next is `controls[1][image]`",
    prompt_field(0): "the picture that it was to be like, if there was one; the next is `image_prompts[1]`",
}
_ORIGIN = (SOURCE, MASK, DEPTH)
# of all that a picture was made from, as for an edit
_SOURCE_BYTES = 64 * 2**20
_MOST_FILES = 16
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class VerifyFace:
    """What the face needs of the rest of the server; `uploads` bounds how many requests' files are in memory."""

    orders: Orders
    uploads: Uploads

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1", tags=["pictures"])
        router.add_api_route(
            "/verify",
            self.verify,
            methods=["POST"],
            response_class=Response,
            responses=_ANSWERS,
            openapi_extra=_BODY,
        )
        return router

    async def verify(self, request: Request) -> Response:
        """Draw a picture again by the versions of its story, and tell whether the pixels are equal."""
        with ExitStack() as held:
            uploads = held.enter_context(ExitStack())
            uploads.enter_context(self.uploads.taken())
            files, body = await self._read(request)
            told, brought, guides = await asyncio.to_thread(self._told, files, uploads)
            del files
            if brought is None and not guides:
                uploads.close()
            asked = await self._asked(told, body, (brought, guides), request, held)
            drawn = await self.orders.drawings.drawn(asked)
            answer = await asyncio.to_thread(_answer, told, asked.order, drawn.pictures[0])
        return Response(answer.model_dump_json(), media_type=JSON_TYPE, headers=first_headers_of(asked.order))

    async def _read(self, request: Request) -> tuple[dict[str, bytes], VerificationBody]:
        if picture_or_form(request.headers.get("content-type")) != MULTIPART_TYPE:
            data = await read_body(request.stream(), request.headers.get("content-length"), MAX_FILE_BYTES)
            return {IMAGE: data}, VerificationBody()
        form = await read_multipart(request, MAX_FILE_BYTES + _SOURCE_BYTES, _MOST_FILES)
        for name, _ in form.fields:
            if _is_file(name):
                raise FieldError(f"{name}: must be a file", name)
        body = typed(VerificationBody, dict(_once(form.fields)), ("user",), ("priority",), texts=True)
        return _files(form.files), body

    def _told(self, files: dict[str, bytes], held: ExitStack) -> tuple[Retold, Brought | None, Guides]:
        rules = self.orders.rules
        try:
            # the live one's, as nobody knows yet which version the story tells of
            denoiser = self.orders.pinning.record.live.contracts[Kind.DENOISER]
            told = retold(files[IMAGE], rules.most_pixels(denoiser))
            _require_files(told, files)
            _, guides = taken_out(typed_body(told.fields), rules, held.enter_context(ExitStack()), files)
            return told, _brought(told, files, rules.max_source_pixels, held), guides
        except RequestError as error:
            raise FieldError(error.message, error.field) from None

    async def _asked(
        self,
        told: Retold,
        body: VerificationBody,
        pictures: tuple[Brought | None, Guides],
        request: Request,
        held: ExitStack,
    ) -> Asked:
        brought, guides = pictures
        orders, who, recording = self.orders, caller(request), Recording()
        # a caller's own fields are refused by their names, those of the story as the picture's
        form = check_form(typed_body({"prompt": "", **body.model_dump()}), "json", orders.rules, who)
        form = replace(form, encoding=told.encoding)
        held.enter_context(orders.admission.admitted(1, who))
        try:
            pinned = await orders.pinning.exact(told.pins)
            rules = told.rules(orders.rules)
            asked_for = typed_body(told.fields)
            order = order_of(asked_for, form, pinned, rules, orders.request_id(), brought, guides)
            told.require_same(order.request)
            order = await orders.with_guides(order, guides)
            _require_beside(told, order)
        except FieldError as error:
            if error.param in guides.fields:
                raise
            raise FieldError(f"{IMAGE}: its story's {error.message}", IMAGE) from None
        except RequestError as error:
            raise FieldError(error.message, error.field) from None
        if brought is not None:
            order = await orders.with_source(order, brought)
        await asyncio.to_thread(_require_origin, told, order)
        recording.lap("admission")
        return Asked(order, form, orders.pinning.record.live.bundle, chosen=True, recording=recording)


def _once(fields: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    known = tuple(VerificationBody.model_fields)
    return one_of_each(fields, known).items()


def _files(given: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name, data in given:
        said = name[:_LONGEST_NAME]
        if not _is_file(name):
            raise FieldError(f"{said!r}: no such file; there are {', '.join(_FILES)}", said)
        if name in files:
            raise FieldError(f"{name}: is there twice", name)
        files[name] = data
    if IMAGE not in files:
        raise FieldError(f"{IMAGE}: is required, and must be a file", IMAGE)
    return files


def _is_file(name: str) -> bool:
    return name in _FILES or GUIDING.fullmatch(name) is not None


def _digests(origin: Origin) -> dict[str, PixelsDigest]:
    """What an origin tells of, by the names of the files."""
    found = {SOURCE: origin.source, MASK: origin.mask, DEPTH: origin.depth}
    controls = {file_field(number): digest for number, digest in enumerate(origin.controls)}
    prompts = {prompt_field(number): digest for number, digest in enumerate(origin.image_prompts)}
    return {name: digest for name, digest in found.items() if digest is not None} | controls | prompts


def _require_files(told: Retold, files: Collection[str]) -> None:
    """Refuse files that are missing or too many.

    Raises:
        RequestError: one is.
    """
    needed = _digests(told.story.origin)
    for name in files:
        if name != IMAGE and name not in needed:
            raise RequestError(name, f"{name}: must be left out: the picture was made without one")
    for name in needed:
        if name not in files:
            raise RequestError(name, f"{name}: is required, and must be a file: the picture was made from it")


def _require_beside(told: Retold, order: Order) -> None:
    present = {str(pin): pin for pin in order.beside}
    for pin in told.story.beside:
        here = present.get(str(pin), pin)
        if here != pin:
            raise FieldError(
                f"beside: {pin} has the sha256 {here.sha256} here, not {pin.sha256}: it is another component", "beside"
            )


def _brought(told: Retold, files: dict[str, bytes], most_pixels: int, held: ExitStack) -> Brought | None:
    """What the picture starts from, of which nothing but the size is known yet.

    Raises:
        RequestError: it is no picture.
    """
    if SOURCE not in files:
        return None
    source, mask, depth = (open_picture(name, files[name], most_pixels) if name in files else None for name in _ORIGIN)
    assert source is not None, "it is there"
    return Brought(source, mask, turned_size(source, SOURCE), told.editing, held, SOURCE, depth)


def _require_origin(told: Retold, order: Order) -> None:
    there = origin_of(order)
    told_into, into = told.story.origin.laid_into, there.laid_into
    if (told_into is None) != (into is None):
        raise FieldError(f"{IMAGE}: was laid into its source in a way that no request of this face asks for", IMAGE)
    digests = _digests(there)
    compared = [(name, digest, digests[name]) for name, digest in _digests(told.story.origin).items()]
    if told_into is not None and into is not None:
        compared.append((SOURCE, told_into, into))
    for name, digest, found in compared:
        if found != digest:
            size = f"{found.width}x{found.height}"
            said = f"is another than the picture was made from: in {size} its sha256 is {found.sha256}"
            raise FieldError(f"{name}: {said}, must be {digest.sha256}", name)


def _answer(told: Retold, order: Order, drawn: Picture) -> Verification:
    pixels = np.asarray(Image.open(BytesIO(drawn.data)).convert("RGB"))
    found = None if told.pixels is None else difference(told.pixels, pixels)
    return Verification(
        equal=found is not None and found.largest == 0,
        largest_difference=None if found is None else found.largest,
        differing_pixels=None if found is None else int(np.count_nonzero(found.amplified)),
        output_format=order.encoding.format,
        output_compression=order.encoding.quality,
        components=[
            VerifiedComponent(kind=kind.value, asked=pin_of(pin), present=pin_of(order.pins[kind]))
            for kind, pin in told.pins.items()
        ]
        + [
            VerifiedComponent(kind=kind_of(pin.name).value, asked=pin_of(pin), present=pin_of(pin))
            for pin in order.beside
        ],
        made_from=made_from(told.story),
        request=request_of(told.story),
    )


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(MEDIA_TYPES.values(), PICTURE),
            MULTIPART_TYPE: {
                "schema": {
                    "type": "object",
                    "required": [IMAGE],
                    "properties": {
                        **{name: {**PICTURE["schema"], "description": said} for name, said in _FILES.items()},
                        **VerificationBody.model_json_schema()["properties"],
                    },
                }
            },
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": Verification, "description": "whether the pixels are equal"},
    **{status: ERRORS[status] for status in (408, 413, 429, 500, 503, 504)},
    400: {**ERRORS[400], "description": "the body is no multipart form"},
    415: {**ERRORS[415], "description": "the body is neither a picture nor a multipart form"},
    422: {
        **ERRORS[422],
        "description": "the picture tells no whole story of ours, a component of it is not to be had or is another, or "
        "the picture that it was made from is missing or is another",
    },
}
