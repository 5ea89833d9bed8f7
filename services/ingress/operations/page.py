"""The web page at `/`: static files that come with the package, and that use nothing but the API for callers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.exceptions import HTTPException

from services.ingress.access.callers import OPEN, Access

_INDEX = "index.html"
_TYPES = MappingProxyType(
    {
        "html": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }
)
# nothing from elsewhere, nothing inline; pictures are blobs that the page made itself, and no text becomes a script
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = MappingProxyType(
    {
        # kept by browsers, and asked for again each time: modules of two releases do not fit each other
        "cache-control": "no-cache",
        "content-security-policy": _POLICY,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page; `tag` is the ETag of its content."""

    content: bytes
    media_type: str
    tag: str


def assets() -> Mapping[str, Asset]:
    """The page's files by name."""
    found = {}
    for entry in (files("services") / "web").iterdir():
        media_type = _TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


@dataclass(frozen=True, slots=True)
class PageFace:
    """Serves the page; its files are read once, at the start."""

    files: Mapping[str, Asset] = field(default_factory=assets)

    def router(self) -> APIRouter:
        """The face's routes, which are no part of the API."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/", self.index, methods=["GET", "HEAD"])
        router.add_api_route("/web/{name}", self.asset, methods=["GET", "HEAD"])
        return router

    def access(self, path: str) -> Access:  # noqa: ARG002 - all of it is open
        """Let in anybody: the page holds nothing but itself, and asks for a key where the API does."""
        return OPEN

    async def index(self, request: Request) -> Response:
        """Show the page."""
        return _answer(self.files[_INDEX], request)

    async def asset(self, request: Request, name: Annotated[str, Path()]) -> Response:
        """Give one file of the page."""
        found = None if name == _INDEX else self.files.get(name)
        if found is None:
            raise HTTPException(404, "Not Found")
        return _answer(found, request)


def _answer(asset: Asset, request: Request) -> Response:
    headers = {**_HEADERS, "etag": asset.tag}
    if _is_known(asset.tag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


def _is_known(tag: str, known: str) -> bool:
    # RFC 9110, 13.1.2: a cache in between may have made a tag weak, and the weak comparison is meant
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in known.split(","))
