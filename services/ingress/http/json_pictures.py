"""Reading JSON that may hold pictures in base64."""

import asyncio
from contextlib import ExitStack
from typing import Any

from fastapi import Request

from services.ingress.http.body import (
    MAX_BODY_BYTES,
    MAX_PICTURES_BYTES,
    parse_object,
    read_body,
    require_json_type,
)
from services.ingress.http.multipart import Uploads


async def read_object(request: Request, uploads: Uploads, held: ExitStack) -> dict[str, Any]:
    """The JSON object of a body; one longer than others may be, or that does not say how long it is, is an upload.

    Its place among uploads is `held`.

    Raises:
        ContentTypeError, BodyTooLargeError, BodyTimeoutError: as `require_json_type` and `read_body`.
        UnreadableBodyError: it is no JSON object.
        OverloadedError: as many uploads are in hand as may be.
    """
    require_json_type(request.headers.get("content-type"))
    announced = request.headers.get("content-length")
    if announced is not None and announced.isdecimal() and len(announced) < 20 and int(announced) <= MAX_BODY_BYTES:
        return parse_object(await read_body(request.stream(), announced))
    held.enter_context(uploads.taken())
    content = await read_body(request.stream(), announced, MAX_PICTURES_BYTES)
    # so much text keeps the event loop for a while
    return await asyncio.to_thread(parse_object, content)
