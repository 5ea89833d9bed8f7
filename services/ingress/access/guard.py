"""Who may come in, decided by a request's key before anything else of it is read."""

import base64
import binascii
from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from services.errors import AuthenticationError, PermissionDeniedError, ServingError
from services.ingress.access.callers import CALLER, IMAGES, Access, GuardedRoute
from services.ingress.http.errors import OPENAI_ALONE, Shapes, answer, shape_at
from services.keys.keyring import Caller, Keyring

_HEADER = b"authorization"
_BEARER = 'Bearer realm="latentworks"'
_BASIC = 'Basic realm="latentworks", charset="UTF-8"'


class Guard:
    """ASGI middleware that lets in the callers whose key may use the route; what is no route needs a key too."""

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring,
        routes: Sequence[GuardedRoute],
        retry_after_s: int,
        shapes: Shapes = OPENAI_ALONE,
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._routes = routes
        self._retry_after_s = retry_after_s
        self._shapes = shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket; other scopes pass untouched."""
        if scope["type"] in ("http", "websocket"):
            route, access = self._find(scope)
            try:
                if access.role is not None:
                    scope[CALLER] = found = self._caller(scope, access)
                    # whoever has a key may learn that there is no such route
                    if route is not None and access.role not in found.roles:
                        raise PermissionDeniedError(f"this key may not do this: it needs the role {access.role}")
            except ServingError as error:
                if scope["type"] == "websocket":
                    # one that was not accepted yet has no words: it is 403
                    await WebSocketClose(WS_1008_POLICY_VIOLATION)(scope, receive, send)
                    return
                if route is not None:
                    # the figures of requests are by route, which nobody else finds out any more
                    scope["route"] = route
                await answer(error, self._retry_after_s, shape_at(scope, self._shapes))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[BaseRoute | None, Access]:
        """The route that the router will choose: one of another method where there is no better."""
        partial: GuardedRoute | None = None
        for route, access in self._routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return route, access
            if match is Match.PARTIAL and partial is None:
                partial = route, access
        return (None, IMAGES) if partial is None else partial

    def _caller(self, scope: Scope, access: Access) -> Caller:
        """Who comes with a request's key.

        Raises:
            AuthenticationError: there is none, or it is not known.
        """
        given = [value for name, value in scope["headers"] if name == _HEADER]
        key = _key(given[0], access) if len(given) == 1 else None
        found = None if key is None else self._keyring.find(key)
        if found is None:
            raise _refusal(access, known=key is not None)
        return found


def _key(header: bytes, access: Access) -> bytes | None:
    """The key of an Authorization header, None where there is none that is taken here."""
    scheme, _, rest = header.strip().partition(b" ")
    match scheme.lower():
        case b"bearer":
            return rest.strip() or None
        case b"basic" if access.basic:
            try:
                return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return None
    return None


def _refusal(access: Access, *, known: bool) -> AuthenticationError:
    said = "the key is none of this server's" if known else "no key was given"
    also = ", or as the password of HTTP Basic" if access.basic else ""
    bearer = f'{_BEARER}, error="invalid_token"' if known else _BEARER
    challenges = (_BASIC, bearer) if access.basic else (bearer,)
    return AuthenticationError(f"{said}; send it as `Authorization: Bearer KEY`{also}", challenges)
