"""The inspection face: what a picture's file says of how it was made, and the request that makes it again."""

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from pipeline.errors import RequestError
from pipeline.story.containers import MAX_FILE_BYTES
from pipeline.story.origin import NOISE
from pipeline.story.reading import Reading, read_story
from pipeline.story.record import Story
from pipeline.story.request import request_of
from services.errors import FieldError
from services.ingress.http.body import JSON_TYPE, read_body
from services.ingress.http.media_types import MEDIA_TYPES
from services.ingress.http.multipart import MULTIPART_TYPE, Multipart, Uploads, picture_or_form, read_multipart
from services.ingress.stories.schemas import Inspection, MadeFrom
from services.ingress.wire.answers import ERRORS, PICTURE, pin_of

_FIELD = "image"
_LONGEST_NAME = 64


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
        beside=[] if story is None else [pin_of(pin) for pin in story.beside],
        fallback_for=None if fallback_for is None else pin_of(fallback_for),
        made_from=made_from(story),
        unknown=list(reading.unknown),
    )


def made_from(story: Story | None) -> MadeFrom | None:
    """What a story tells of the pictures that its own was made from, None where it tells of none."""
    origin = NOISE if story is None else story.origin
    if origin == NOISE:
        return None
    lists = {"controls": list(origin.controls), "image_prompts": list(origin.image_prompts)}
    return MadeFrom(**{**origin._asdict(), **lists})


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
