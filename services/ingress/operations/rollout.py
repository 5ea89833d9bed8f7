"""What operators ask of the rollout, and MLflow's word that something has changed."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import SecretStr

from services.ingress.access.callers import OPEN, OPERATE, Access
from services.ingress.http.body import read_body
from services.ingress.http.errors import SignatureError

# how old a webhook's signature may be, as others could send it again
_FRESH_S = 300
_MOST_DIGITS = 20

# an address with a scheme or of an IPv4 host; a path from the root or the home, in quotation marks to their end
_ADDRESS = re.compile(r"\b[\w+.-]+://[^\s'\",;)]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")
_PATH = re.compile(r"(?<=')~?/[^']+|(?<=\")~?/[^\"]+|(?<![\w./~])(?:~|\.{1,2})?/[^\s:;,'\")]+")


@dataclass(frozen=True, slots=True)
class RolloutFace:
    """`status` tells everything about the rollout; `hint` has the registry asked at once.

    Without `webhook_secret` there is no route for webhooks.
    """

    status: Callable[[], Awaitable[dict[str, Any]]]
    hint: Callable[[], Awaitable[None]]
    webhook_secret: SecretStr | None

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1", tags=["operation"])
        router.add_api_route("/rollout", self.show, methods=["GET"], response_class=JSONResponse)
        if self.webhook_secret is not None:
            router.add_api_route("/registry/webhook", self.webhook, methods=["POST"], status_code=HTTPStatus.ACCEPTED)
        return router

    def access(self, path: str) -> Access:
        """Let in operators; a webhook brings no key, and is signed instead."""
        return OPEN if path.endswith("/webhook") else OPERATE

    async def show(self) -> JSONResponse:
        """Tell what is live, what is on its way, and which versions every replica holds."""
        return JSONResponse(_public(await self.status()))

    async def webhook(self, request: Request) -> Response:
        """Take MLflow's word that something has changed, signed with the secret that both know."""
        body = await read_body(request.stream(), request.headers.get("content-length"))
        headers = request.headers
        given = headers.get("x-mlflow-signature", "")
        parts = (headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", ""))
        if not hmac.compare_digest(given.encode(), self._signature(*parts, body).encode()) or not _fresh(parts[1]):
            raise SignatureError("the signature is not that of our secret, or too old")
        await self.hint()
        return Response(status_code=HTTPStatus.ACCEPTED)

    def _signature(self, delivery: str, timestamp: str, body: bytes) -> str:
        # as MLflow signs: delivery id, timestamp and payload, with dots between
        assert self.webhook_secret is not None, "the route is there only with a secret"
        secret = self.webhook_secret.get_secret_value().encode()
        digest = hmac.digest(secret, f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256)
        return f"v1,{base64.b64encode(digest).decode()}"


def _public(found: Any) -> Any:
    """What is told to anybody: in its texts no path and no address.

    They are taken out by their looks, as no class of ours vouches for a reason: it quotes ONNX Runtime, the system or
    MLflow, and comes as text from a replica or from a tag that anyone with access to the registry may have written.
    """
    match found:
        case dict():
            return {name: _public(value) for name, value in found.items()}
        case list() | tuple():
            return [_public(value) for value in found]
        case str():
            return _PATH.sub("(a path)", _ADDRESS.sub("(an address)", found))
    return found


def _fresh(timestamp: str) -> bool:
    # Python reads no number of thousands of digits
    return (
        timestamp.isascii()
        and timestamp.isdigit()
        and len(timestamp) <= _MOST_DIGITS
        and abs(time.time() - int(timestamp)) <= _FRESH_S
    )
