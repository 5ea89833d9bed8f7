"""The HTTP application: the faces, one translation of errors, and the document that describes them."""

from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from services.errors import ServingError
from services.ingress.access.callers import OPEN, GuardedRoute, access_of, add_security
from services.ingress.access.guard import Guard
from services.ingress.http.envelope import Envelope
from services.ingress.http.errors import answer, shape_at, shapes_of
from services.ingress.jobs.face import add_job_schemas
from services.ingress.latents.face import add_body_schemas
from services.ingress.openai.edits import add_form_schemas
from services.ingress.openai.generations import add_body_schema
from services.keys.keyring import Keyring
from services.metrics.ingress import IngressMetrics

_DESCRIPTION = """Text becomes pictures by latent diffusion, each network its own service.

Status codes: 400 for a body that is no JSON object, 401 for a webhook that is not signed with our secret, 403 for a
link that is not ours, 404 for an unknown route, model or job, or latents that are not kept, 405, 406, 408 for a body
that does not come in time, 409 for a job that has ended and for an idempotency key of another request, 410 for a link
whose time is over and a job that is kept no more, 413, 415, 422 for a field that is unknown or outside its limits,
429 and 503 with `retry-after`, 500 where something failed on our side, 504 where `deadline_s` has passed or would,
507 where there is no room for a picture or a job. Errors have OpenAI's shape, under /sdapi/ A1111's."""


class Face(Protocol):
    """A part of the server as its callers see it; one that is not for the role `images` alone is `Restricted` too."""

    def router(self) -> APIRouter:
        """The face's routes."""


def create_app(
    faces: Sequence[Face], metrics: IngressMetrics, retry_after_s: int, keyring: Keyring | None = None
) -> FastAPI:
    """Put the faces together; without a keyring no route asks for a key."""
    app = FastAPI(title="Latentworks", description=_DESCRIPTION, version="1", redirect_slashes=False)
    # those of the document that describes the server
    routes: list[GuardedRoute] = [(route, OPEN) for route in app.routes]
    for face in faces:
        router = face.router()
        routes += [(route, access_of(face, route)) for route in router.routes]
        app.include_router(router)

    shapes = shapes_of(faces)

    async def translate(request: Request, error: Exception) -> Response:
        return answer(error, retry_after_s, shape_at(request.scope, shapes))

    app.add_exception_handler(ServingError, translate)
    app.add_exception_handler(HTTPException, translate)
    if keyring is not None:
        app.add_middleware(Guard, keyring=keyring, routes=routes, retry_after_s=retry_after_s, shapes=shapes)
    app.add_middleware(Envelope, metrics=metrics, retry_after_s=retry_after_s, shapes=shapes)

    generated = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generated()
        _drop_unmade_errors(schema)
        add_body_schema(schema)
        add_form_schemas(schema)
        add_body_schemas(schema)
        add_job_schemas(schema)
        if keyring is not None:
            add_security(schema, routes)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _drop_unmade_errors(schema: dict[str, Any]) -> None:
    """Take out the error that FastAPI tells of wherever a path has a parameter: all checks here are ours."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if any("HTTPValidationError" in str(one) for one in content.values()):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
