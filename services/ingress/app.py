"""The HTTP application: the faces, one translation of errors, and the document that describes them."""

from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from services.errors import ServingError
from services.ingress.envelope import Envelope
from services.ingress.errors import answer
from services.ingress.latents import add_body_schemas
from services.ingress.openai import add_body_schema
from services.metrics import IngressMetrics

_DESCRIPTION = """Text becomes pictures by latent diffusion, each network its own service.

Status codes: 400 for a body that is no JSON object, 401 for a webhook that is not signed with our secret, 404 for an
unknown route or model, or latents that are not kept, 405, 406, 413, 415, 422 for a field that is unknown or outside its
limits, 429 and 503 with `retry-after`, 500 where something failed on our side, 504 where `deadline_s` has passed or
would. Every error has OpenAI's shape."""


class Face(Protocol):
    """A part of the server as its callers see it."""

    def router(self) -> APIRouter:
        """The face's routes."""


def create_app(faces: Sequence[Face], metrics: IngressMetrics, retry_after_s: int) -> FastAPI:
    """Put the faces together."""
    app = FastAPI(title="Latentworks", description=_DESCRIPTION, version="1", redirect_slashes=False)
    for face in faces:
        app.include_router(face.router())

    async def translate(_request: Request, error: Exception) -> Response:
        return answer(error, retry_after_s)

    app.add_exception_handler(ServingError, translate)
    app.add_exception_handler(HTTPException, translate)
    app.add_middleware(Envelope, metrics=metrics, retry_after_s=retry_after_s)

    generated = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generated()
        add_body_schema(schema)
        add_body_schemas(schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
