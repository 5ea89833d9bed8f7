"""The inspection face: what a picture's file says of how it was made, and the request that makes it again."""

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, JsonValue

from pipeline.errors import RequestError
from pipeline.story.containers import MAX_FILE_BYTES
from pipeline.story.origin import NOISE, PixelsDigest
from pipeline.story.reading import Reading, Source, read_story
from pipeline.story.record import Story
from pipeline.story.request import request_of
from services.errors import FieldError
from services.ingress.answers import ERRORS, PICTURE, pin_of
from services.ingress.body import JSON_TYPE, read_body
from services.ingress.media_types import MEDIA_TYPES
from services.ingress.multipart import MULTIPART_TYPE, Multipart, Uploads, picture_or_form, read_multipart
from services.ingress.schemas import ComponentPin

_FIELD = "image"
_LONGEST_NAME = 64


class MadeFrom(BaseModel):
    """The picture that another one was made from, and its mask, told by their digests."""

    source: PixelsDigest = Field(description="of its RGB pixels, in the size that was drawn")
    mask: PixelsDigest | None = Field(description="of a byte for each latent, 1 where it was drawn anew; null: all was")


class Inspection(BaseModel):
    """What a picture's file says of how it was made."""

    source: Source = Field(
        description="whose form it was read from: ours, an infotext as A1111 writes it, or nothing was found"
    )
    model: str | None = Field(description="the bundle, or what another program calls its checkpoint")
    parameters: str | None = Field(description="the infotext as it stands in the file")
    request: dict[str, JsonValue] = Field(
        description="fields of a request that makes the picture again; what is the default is left out"
    )
    components: dict[str, ComponentPin] = Field(description="what made it, by kind, where it was made here")
    fallback_for: ComponentPin | None = Field(
        description="the VAE decoder that gave no picture, where another made it; else null"
    )
    made_from: MadeFrom | None = Field(description="the picture that it was made from, where the story tells of one")
    unknown: list[str] = Field(description="the parts of the file's texts that were not understood, cut short")


@dataclass(frozen=True, slots=True)
class InspectFace:
    """Reads pictures' texts; `uploads` bounds how many are in memory."""

    uploads: Uploads

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1", tags=["pictures"])
        router.add_api_route(
            "/inspect",
            self.inspect,
            methods=["POST"],
            response_class=Response,
            responses=_ANSWERS,
            openapi_extra=_BODY,
        )
        return router

    async def inspect(self, request: Request) -> Response:
        """Read what a picture's file says of how it was made; no pixel is looked at, and nothing is kept."""
        media_type = picture_or_form(request.headers.get("content-type"))
        with self.uploads.taken():
            if media_type == MULTIPART_TYPE:
                data = _picture_of(await read_multipart(request, MAX_FILE_BYTES, most_files=1))
            else:
                data = await read_body(request.stream(), request.headers.get("content-length"), MAX_FILE_BYTES)
            try:
                reading = await asyncio.to_thread(read_story, data)
            except RequestError as error:
                raise FieldError(error.message, error.field) from None
        return Response(_answer(reading).model_dump_json(), media_type=JSON_TYPE)


def _picture_of(form: Multipart) -> bytes:
    """The one file of a form.

    Raises:
        FieldError: it has another name, or there is something beside it.
    """
    match form.files:
        case [(name, data)] if name == _FIELD and not form.fields:
            return data
    for name in (name[:_LONGEST_NAME] for name, _ in (*form.fields, *form.files) if name != _FIELD):
        raise FieldError(f"{name!r}: no such field; there is {_FIELD}, a file", name)
    raise FieldError(f"{_FIELD}: is required, and must be a file", _FIELD)


def _answer(reading: Reading) -> Inspection:
    story = reading.story
    fallback_for = None if story is None else story.fallback_for
    return Inspection(
        source=reading.source,
        model=None if story is None else story.model,
        parameters=reading.parameters,
        request={} if story is None else request_of(story),
        components={} if story is None else {kind.value: pin_of(pin) for kind, pin in story.components.items()},
        fallback_for=None if fallback_for is None else pin_of(fallback_for),
        made_from=made_from(story),
        unknown=list(reading.unknown),
    )


def made_from(story: Story | None) -> MadeFrom | None:
    """What a story tells of the picture that its own was made from, None where it tells of none."""
    source, mask = NOISE if story is None else story.origin
    return None if source is None else MadeFrom(source=source, mask=mask)


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(MEDIA_TYPES.values(), PICTURE),
            MULTIPART_TYPE: {
                "schema": {
                    "type": "object",
                    "required": [_FIELD],
                    "properties": {_FIELD: {**PICTURE["schema"], "description": "the picture"}},
                }
            },
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": Inspection, "description": "what was found, which may be nothing"},
    **{status: ERRORS[status] for status in (408, 413, 429, 500)},
    400: {**ERRORS[400], "description": "the body is no multipart form with one file"},
    415: {**ERRORS[415], "description": "the body is neither a picture nor a multipart form"},
    422: {**ERRORS[422], "description": "the picture is no PNG, JPEG or WebP file"},
}
