"""Links to pictures: signed, for a time, for whoever has them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Request, Response

from services.errors import FileNotKeptError, LinkSignatureError, PictureNotKeptError
from services.files.pictures import Link
from services.ingress.access.callers import OPEN, Access
from services.ingress.http.addresses import PublicAddress
from services.ingress.http.media_types import MEDIA_TYPES
from services.ingress.wire.answers import PICTURE
from services.ingress.wire.queries import query_field, with_query
from services.ingress.wire.schemas import ErrorAnswer
from services.messages import Picture, PictureFormat

_log = logging.getLogger("ray.serve")

_PATH = "/v1/images/files"
# calls queue while the store's replica starts again, and a caller must not wait for that
_MOST_S = 5.0
_MOST_DIGITS = 12
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class LinksFace:
    """What the face needs of the rest of the server: the store of pictures, and where callers reach us."""

    keep: Callable[[bytes, PictureFormat], Awaitable[Link]]
    read: Callable[[Link], Awaitable[bytes]]
    address: PublicAddress

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(tags=["OpenAI images"])
        router.add_api_route(
            f"{_PATH}/{{name}}",
            self.show,
            methods=["GET"],
            response_class=Response,
            responses=_ANSWERS,
            openapi_extra=_QUERY,
        )
        return router

    def access(self, path: str) -> Access:  # noqa: ARG002 - it has one route
        """Let in anybody: a link is signed."""
        return OPEN

    async def urls(self, request: Request, pictures: Sequence[Picture], format_: PictureFormat) -> list[str]:
        """Keep the pictures of a request's answer, and return their addresses.

        Raises:
            PictureNotKeptError: one of them cannot be kept.
        """
        try:
            async with asyncio.timeout(_MOST_S):
                links = await asyncio.gather(*(self.keep(picture.data, format_) for picture in pictures))
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no link
            said = error.message if isinstance(error, FileNotKeptError) else type(error).__name__
            _log.error("pictures are not kept: %s", said)
            raise PictureNotKeptError(
                "response_format=url: the picture was drawn and cannot be kept just now; ask for b64_json",
                "response_format",
            ) from None
        return [url_of(link, self.address.of(request)) for link in links]

    async def show(self, request: Request, name: Annotated[str, Path(description="as the link has it")]) -> Response:
        """Show the picture of a link."""
        expires, signature = (request.query_params.get(part, "") for part in ("expires", "signature"))
        format_ = next((known for known in MEDIA_TYPES if name.endswith(f".{known}")), None)
        digits = expires.isascii() and expires.isdecimal() and len(expires) <= _MOST_DIGITS
        if format_ is None or not digits or len(name) > _LONGEST_NAME:
            raise LinkSignatureError("signature: is not that of this link", "signature")
        link = Link(name, int(expires), signature)
        data = await self.read(link)
        headers = {
            "cache-control": f"private, max-age={max(0, int(link.expires - time.time()))}, immutable",
            "content-disposition": f'inline; filename="{name}"',
            "x-content-type-options": "nosniff",
        }
        return Response(data, media_type=MEDIA_TYPES[format_], headers=headers)


def url_of(link: Link, address: str) -> str:
    """The address of a link's picture, by how its caller reaches this server."""
    return f"{address}{_PATH}/{link.name}?{urlencode({'expires': link.expires, 'signature': link.signature})}"


_ANSWERS: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {"description": "the picture", "content": dict.fromkeys(MEDIA_TYPES.values(), PICTURE)},
    HTTPStatus.FORBIDDEN: {"model": ErrorAnswer, "description": "the link is not one that this server gave"},
    HTTPStatus.GONE: {"model": ErrorAnswer, "description": "the link's time is over, or its picture had to make room"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"model": ErrorAnswer, "description": "the store is not there just now"},
}
_QUERY = with_query(
    query_field("expires", "as the link has it", {"type": "integer"}, required=True),
    query_field("signature", "as the link has it", required=True),
)
