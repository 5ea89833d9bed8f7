"""OpenAI's images face: pictures from prompts, and the list of models."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import time
from typing import Any

from fastapi import APIRouter, Request, Response

from services.ingress.http.body import JSON_TYPE
from services.ingress.http.json_pictures import read_object
from services.ingress.http.multipart import Uploads
from services.ingress.orders.fields import typed_body
from services.ingress.orders.guides import taken_out
from services.ingress.orders.orders import Orders
from services.ingress.orders.pinning import Pinning
from services.ingress.wire.answers import ANSWERS, EVENTS, STREAMED
from services.ingress.wire.requests import GenerationBody
from services.ingress.wire.schemas import Model, ModelList

_SCHEMAS = "#/components/schemas/"
_BODY = {
    "requestBody": {
        "required": True,
        "content": {JSON_TYPE: {"schema": {"$ref": f"{_SCHEMAS}GenerationBody"}}},
    }
}


@dataclass(frozen=True, slots=True)
class ImagesFace:
    """What the face needs of the rest of the server."""

    pinning: Pinning
    orders: Orders
    uploads: Uploads
    started: int = field(default_factory=lambda: int(time()))

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1", tags=["OpenAI images"])
        router.add_api_route(
            "/images/generations",
            self.generate,
            methods=["POST"],
            response_class=Response,
            responses={**ANSWERS, 200: {**ANSWERS[200], "content": {**ANSWERS[200]["content"], **STREAMED}}},
            openapi_extra=_BODY,
        )
        router.add_api_route("/models", self.models, methods=["GET"], response_model=ModelList)
        return router

    async def models(self) -> ModelList:
        """List the served bundles."""
        return ModelList(data=[Model(id=self.pinning.record.live.bundle, created=self.started)])

    async def generate(self, request: Request) -> Response:
        """Draw pictures from a prompt."""
        with ExitStack() as held:
            parsed = await read_object(request, self.uploads, uploading := held.enter_context(ExitStack()))
            body, guides = await asyncio.to_thread(taken_out, typed_body(parsed), self.orders.rules, uploading)
            del parsed
            return await self.orders.answer(body, request, guides=guides)


def add_body_schema(schema: dict[str, Any]) -> None:
    """Add the schemas of the request's body and of the events to an OpenAPI document.

    The route reads the one and writes the others itself, so FastAPI has not.
    """
    schemas = schema["components"]["schemas"]
    for model in (GenerationBody, *EVENTS):
        made = model.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        schemas.update(made.pop("$defs", {}))
        schemas[model.__name__] = made
