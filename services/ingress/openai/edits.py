"""OpenAI's faces for pictures that a request brings: edits by a prompt and a mask, and variations."""

import asyncio
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any

from fastapi import APIRouter, Request, Response

from services.errors import ContentTypeError, FieldError
from services.ingress.http.form_fields import members_of
from services.ingress.http.multipart import MULTIPART_TYPE, Multipart, Uploads, read_multipart
from services.ingress.orders.fields import typed_edit, typed_variation
from services.ingress.orders.guides import GUIDING, IMAGE_PROMPTS, Body, Guides, prompt_field, taken_out
from services.ingress.orders.orders import Orders
from services.ingress.orders.sources import DEPTH, IMAGE, MASK, Brought, Editing, brought
from services.ingress.wire.answers import ANSWERS, PICTURE, STREAMED
from services.ingress.wire.requests import EditBody, VariationBody

# of picture, mask and depth together
_MOST_BYTES = 64 * 2**20
# several are refused by name, not for being too many parts
_MOST_FILES = 16
# far enough to be another picture, and near enough to be one of the same thing
_VARIATION = 0.6


@dataclass(frozen=True, slots=True)
class EditsFace:
    """What the face needs of the rest of the server; `uploads` bounds how many forms are in memory."""

    orders: Orders
    uploads: Uploads

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1/images", tags=["OpenAI images"])
        for path, endpoint, model, files in (
            ("/edits", self.edit, EditBody, (IMAGE, MASK, DEPTH)),
            ("/variations", self.vary, VariationBody, (IMAGE,)),
        ):
            router.add_api_route(
                path,
                endpoint,
                methods=["POST"],
                response_class=Response,
                responses=_ANSWERS,
                openapi_extra=_body(model.__name__, files),
            )
        return router

    async def edit(self, request: Request) -> Response:
        """Draw pictures from a prompt and a picture: all of it anew, or where a mask says so."""
        with ExitStack() as held:
            guiding, form = _parted(await self._read(request, held))
            body, guides = await self._guided(typed_edit(_members(form, guiding)), guiding, held)
            pictures = await self._brought(form, (MASK, DEPTH), _editing_of(body), held)
            del form, guiding
            return await self.orders.answer(body, request, pictures, "image_edit", guides)

    async def vary(self, request: Request) -> Response:
        """Draw pictures like the one that a request brings."""
        with ExitStack() as held:
            guiding, form = _parted(await self._read(request, held))
            body, guides = await self._guided(typed_variation(_members(form, guiding)), guiding, held)
            editing = _editing_of(body)
            if editing.strength is None:
                editing = replace(editing, strength=_VARIATION)
            pictures = await self._brought(form, (), editing, held)
            del form, guiding
            return await self.orders.answer(body, request, pictures, "image_edit", guides)

    async def _brought(self, form: Multipart, fields: tuple[str, ...], editing: Editing, held: ExitStack) -> Brought:
        # a file of many parts takes a while to walk through
        most = self.orders.rules.max_source_pixels
        return await asyncio.to_thread(brought, form.files, fields, editing, most, held)

    async def _guided(self, body: Body, files: dict[str, bytes], held: ExitStack) -> tuple[Body, Guides]:
        # the place among uploads is that of the form, which the picture to edit gives back
        own = held.enter_context(ExitStack())
        return await asyncio.to_thread(taken_out, body, self.orders.rules, own, files)

    async def _read(self, request: Request, held: ExitStack) -> Multipart:
        media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if media_type != MULTIPART_TYPE:
            raise ContentTypeError(f"content-type: must be {MULTIPART_TYPE}")
        held.enter_context(self.uploads.taken())
        return await read_multipart(request, _MOST_BYTES, _MOST_FILES)


def _editing_of(body: EditBody) -> Editing:
    """What a body says of the pictures that it brings."""
    return Editing(**{field.name: getattr(body, field.name) for field in fields(Editing)})


def _members(form: Multipart, guiding: Iterable[str]) -> dict[str, Any]:
    """The fields of a form, with a place for each of its files that guide what is drawn."""
    named = sorted(name for name in guiding if name.startswith(IMAGE_PROMPTS))
    places = ((name, "") for name in guiding if name not in named)
    members = members_of((*form.fields, *places), _OBJECTS, _TEXTS)
    if named:
        if IMAGE_PROMPTS in members or named != [prompt_field(number) for number in range(len(named))]:
            raise FieldError(
                f"{IMAGE_PROMPTS}: must be files numbered from 0 on, {prompt_field(0)} the first", IMAGE_PROMPTS
            )
        members[IMAGE_PROMPTS] = [""] * len(named)
    return members


def _parted(form: Multipart) -> tuple[dict[str, bytes], Multipart]:
    """The files of control pictures by their fields, and the form without them.

    Raises:
        FieldError: one is there twice.
    """
    guiding: dict[str, bytes] = {}
    others = []
    for name, data in form.files:
        if GUIDING.fullmatch(name) is None:
            others.append((name, data))
        elif name in guiding:
            raise FieldError(f"{name}: is there twice", name)
        else:
            guiding[name] = data
    return guiding, replace(form, files=tuple(others))


_OBJECTS = ("components", "hires")
_FILES = {
    IMAGE: "the picture: PNG, JPEG, WebP, GIF or BMP, not animated",
    MASK: "a PNG as large as the picture; what is transparent in it is drawn anew",
    DEPTH: "how near things are, for a model that sees it: grey, of 8 or 16 bits and any scale, the lighter the nearer",
}
_TEXTS = ("prompt", "negative_prompt", "user")
_ANSWERS: dict[int | str, dict[str, Any]] = {
    **ANSWERS,
    200: {**ANSWERS[200], "content": {**ANSWERS[200]["content"], **STREAMED}},
    400: {**ANSWERS[400], "description": "the body is no multipart form"},
    415: {**ANSWERS[415], "description": f"the body is not {MULTIPART_TYPE}"},
}


def _body(model: str, files: tuple[str, ...]) -> dict[str, Any]:
    properties = {name: {**PICTURE["schema"], "description": _FILES[name]} for name in files}
    pictures = {"type": "object", "required": [IMAGE], "properties": properties}
    whole = {"allOf": [{"$ref": f"#/components/schemas/{model}"}, pictures]}
    return {"requestBody": {"required": True, "content": {MULTIPART_TYPE: {"schema": whole}}}}


def add_form_schemas(schema: dict[str, Any]) -> None:
    """Add the schemas of the forms to an OpenAPI document; the routes read them themselves, so FastAPI has not."""
    for model in (EditBody, VariationBody):
        made = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"].update(made.pop("$defs", {}))
        # the files stand beside them
        made.pop("additionalProperties", None)
        schema["components"]["schemas"][model.__name__] = made
