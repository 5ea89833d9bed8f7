"""What happens to every request, whatever its route: figures, and an answer even when something breaks.

The request's id, `x-request-id`, is the work of Serve's proxy: it takes the caller's or makes one, and answers with it.
"""

import time
from http import HTTPStatus

from ray.exceptions import RayError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingress.http.errors import OPENAI_ALONE, Shapes, answer, shape_at
from services.metrics.ingress import IngressMetrics

_UNKNOWN_ROUTE = "unknown"
# nginx's status of a request whose client went away
_CLIENT_CLOSED = 499


class Envelope:
    """ASGI middleware around the whole app; the last resort of an exception, of which nothing reaches Serve's log."""

    def __init__(
        self, app: ASGIApp, metrics: IngressMetrics, retry_after_s: int, shapes: Shapes = OPENAI_ALONE
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._retry_after_s = retry_after_s
        self._shapes = shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other scopes pass untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, whole = _CLIENT_CLOSED, False
        started = time.perf_counter()

        async def watched_send(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                whole = True

        async def watched_receive() -> Message:
            try:
                return await receive()
            except RayError:
                # Serve's proxy asks its own call back when the client goes away, which can come before our
                # cancellation, and is gone itself with its node: the line to the client ends either way
                return {"type": "http.disconnect"}

        try:
            await self._app(scope, watched_receive, watched_send)
        except ClientDisconnect:
            # it went away while it sent its body; nobody reads an answer
            status = _CLIENT_CLOSED
        except Exception as error:
            if status != _CLIENT_CLOSED:  # half an answer is out already; only breaking off tells the client
                status, whole = HTTPStatus.INTERNAL_SERVER_ERROR, True
                raise
            shape = shape_at(scope, self._shapes)
            await answer(error, self._retry_after_s, shape)(scope, receive, watched_send)
        finally:
            # a stream that was left before its end was not answered either
            self._count(scope, status if whole else _CLIENT_CLOSED, time.perf_counter() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # the route's pattern, never the path: a path is the caller's text, and each would be a new series
        route = getattr(scope.get("route"), "path", _UNKNOWN_ROUTE)
        method = scope["method"] if route != _UNKNOWN_ROUTE else _UNKNOWN_ROUTE
        self._metrics.requests.inc(tags={"route": route, "method": method, "status": str(status)})
        self._metrics.request_seconds.observe(seconds, tags={"route": route})
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            self._metrics.refused.inc(tags={"reason": HTTPStatus(status).phrase.lower().replace(" ", "_")})
