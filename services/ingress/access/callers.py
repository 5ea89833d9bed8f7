"""Whom a route lets in, and who the caller of a request is."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute

from services.keys.keyring import ANYBODY, Caller
from services.keys.records import Role

CALLER = "latentworks.caller"

_BEARER, _BASIC = "key", "password"
_SCHEMES = {
    _BEARER: {"type": "http", "scheme": "bearer", "description": "one of this server's keys"},
    _BASIC: {"type": "http", "scheme": "basic", "description": "any user name, and one of this server's keys"},
}
_REFUSALS = {"401": "no key, or one that is not known", "403": "the key may not do this"}
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}


@dataclass(frozen=True, slots=True)
class Access:
    """What a route asks for: a key with this role, None for no key at all.

    With `basic` the key may also come as the password of HTTP Basic, as clients that know no tokens send it.
    """

    role: Role | None = "images"
    basic: bool = False


# for what tells nothing of anybody, or asks for a proof of its own
OPEN = Access(None)
IMAGES = Access("images")
OPERATE = Access("operate")

GuardedRoute: TypeAlias = tuple[BaseRoute, Access]


@runtime_checkable
class Restricted(Protocol):
    """A face that says of its routes whom they let in; the routes of one that does not are for the role `images`."""

    def access(self, path: str) -> Access:
        """Whom the route with this path, as the router has it, lets in."""


def access_of(face: object, route: BaseRoute) -> Access:
    """Whom a route of a face lets in."""
    return face.access(getattr(route, "path", "")) if isinstance(face, Restricted) else IMAGES


def caller(request: HTTPConnection) -> Caller:
    """Who sent a request; where no keys are asked for, it is anybody."""
    found: Caller = request.scope.get(CALLER, ANYBODY)
    return found


def add_security(schema: dict[str, Any], routes: list[GuardedRoute]) -> None:
    """Say in an OpenAPI document which routes ask for a key, and how it is given."""
    used: set[str] = set()
    for route, access in routes:
        if access.role is None or not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        taken = [_BEARER, *([_BASIC] if access.basic else [])]
        used.update(taken)
        for method in route.methods or ():
            operation = schema["paths"][route.path_format][method.lower()]
            operation["security"] = [{one: []} for one in taken]
            for status, why in _REFUSALS.items():
                operation["responses"].setdefault(status, {"description": why, "content": _ERROR})
    schema["components"]["securitySchemes"] = {name: _SCHEMES[name] for name in sorted(used)}
