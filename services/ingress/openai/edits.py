"""OpenAI's faces for pictures that a request brings: edits by a prompt and a mask, and variations."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any

from fastapi import APIRouter, Request, Response

from services.errors import ContentTypeError, FieldError, UnreadableBodyError
from services.ingress.http.body import parse_object
from services.ingress.http.multipart import MULTIPART_TYPE, Multipart, Uploads, read_multipart
from services.ingress.orders.fields import typed_edit, typed_variation
from services.ingress.orders.orders import Orders
from services.ingress.orders.sources import DEPTH, IMAGE, MASK, Brought, Editing, brought
from services.ingress.wire.answers import ANSWERS, PICTURE, STREAMED
from services.ingress.wire.requests import EditBody, VariationBody

# of picture, mask and depth together
_MOST_BYTES = 64 * 2**20
# several are refused by name, not for being too many parts
_MOST_FILES = 16
_LONGEST_NAME = 64
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
            form = await self._read(request, held)
            body = typed_edit(_members(form.fields))
            pictures = await self._brought(form, (MASK, DEPTH), _editing_of(body), held)
            del form
            return await self.orders.answer(body, request, pictures, "image_edit")

    async def vary(self, request: Request) -> Response:
        """Draw pictures like the one that a request brings."""
        with ExitStack() as held:
            form = await self._read(request, held)
            body = typed_variation(_members(form.fields))
            editing = _editing_of(body)
            if editing.strength is None:
                editing = replace(editing, strength=_VARIATION)
            pictures = await self._brought(form, (), editing, held)
            del form
            return await self.orders.answer(body, request, pictures, "image_edit")

    async def _brought(self, form: Multipart, fields: tuple[str, ...], editing: Editing, held: ExitStack) -> Brought:
        # a file of many parts takes a while to walk through
        most = self.orders.rules.max_source_pixels
        return await asyncio.to_thread(brought, form.files, fields, editing, most, held)

    async def _read(self, request: Request, held: ExitStack) -> Multipart:
        media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if media_type != MULTIPART_TYPE:
            raise ContentTypeError(f"content-type: must be {MULTIPART_TYPE}")
        held.enter_context(self.uploads.taken())
        return await read_multipart(request, _MOST_BYTES, _MOST_FILES)


def _editing_of(body: EditBody) -> Editing:
    """What a body says of the pictures that it brings."""
    return Editing(**{field.name: getattr(body, field.name) for field in fields(Editing)})


def _members(fields: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The fields of a form as an object has them: `components[vae_decoder]` is a member of `components`.

    What is empty was not filled in, but for texts of the caller's own, which may be so.
    """
    members: dict[str, Any] = {}
    for name, value in fields:
        outer, inner = _split(name)
        if inner is None:
            if outer in members:
                raise FieldError(f"{outer[:_LONGEST_NAME]}: is there twice", outer[:_LONGEST_NAME])
            members[outer] = _object(value) if outer in _OBJECTS else value if value or outer in _TEXTS else None
            continue
        inside = members.setdefault(outer, {})
        if not isinstance(inside, dict) or inner in inside:
            raise FieldError(f"{name[:_LONGEST_NAME]}: is there twice", outer[:_LONGEST_NAME])
        inside[inner] = value
    return members


def _object(value: str) -> Any:
    """An object that a form has as the text of its JSON; any other text as it is, to be refused as such."""
    try:
        return parse_object(value.encode("utf-8", "replace")) if value else None
    except UnreadableBodyError:
        return value


def _split(name: str) -> tuple[str, str | None]:
    outer, bracket, inner = name.partition("[")
    return (outer, inner.removesuffix("]")) if bracket and inner.endswith("]") else (name, None)


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
