"""OpenAI's images face: pictures from prompts, and the list of models."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import time
from typing import Any

from fastapi import APIRouter, Request, Response

from pipeline.request import RequestRules
from services.ingress.admission import Admission
from services.ingress.body import JSON_TYPE, parse_object, read_body, require_json_type
from services.ingress.fields import check_body
from services.ingress.media_types import MEDIA_TYPES, wanted
from services.ingress.schemas import (
    ComponentPin,
    ErrorAnswer,
    GeneratedImage,
    GenerationAnswer,
    GenerationBody,
    Model,
    ModelList,
)
from services.messages import Drawn, LiveModel, Order
from services.metrics import IngressMetrics

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "the body is no JSON object"},
    404: {"model": ErrorAnswer, "description": "no such model"},
    406: {"model": ErrorAnswer, "description": "accept names nothing that can be given"},
    413: {"model": ErrorAnswer, "description": "the body is too long"},
    415: {"model": ErrorAnswer, "description": "the body is not application/json"},
    422: {"model": ErrorAnswer, "description": "a field is unknown or outside its limits"},
    429: {"model": ErrorAnswer, "description": "too much waits; retry-after says how long to wait"},
    500: {"model": ErrorAnswer, "description": "something failed on our side"},
    503: {"model": ErrorAnswer, "description": "a part of the server is not there just now"},
    504: {"model": ErrorAnswer, "description": "deadline_s has passed, or would before the pictures are done"},
}
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": GenerationAnswer,
        "description": "JSON, or the picture itself where accept asks for it",
        "content": dict.fromkeys(MEDIA_TYPES.values(), _PICTURE),
    },
    **_ERRORS,
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/GenerationBody"}}},
    }
}


@dataclass(frozen=True, slots=True)
class ImagesFace:
    """What the face needs of the rest of the server; `draw` makes an order's pictures."""

    live: LiveModel
    rules: RequestRules
    draw: Callable[[Order], Awaitable[Drawn]]
    admission: Admission
    metrics: IngressMetrics
    started: int = field(default_factory=lambda: int(time()))

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1", tags=["OpenAI images"])
        router.add_api_route(
            "/images/generations",
            self.generate,
            methods=["POST"],
            response_class=Response,
            responses=_ANSWERS,
            openapi_extra=_BODY,
        )
        router.add_api_route("/models", self.models, methods=["GET"], response_model=ModelList)
        return router

    async def models(self) -> ModelList:
        """List the served bundles."""
        return ModelList(data=[Model(id=self.live.bundle, created=self.started)])

    async def generate(self, request: Request) -> Response:
        """Draw pictures from a prompt."""
        accept = wanted(request.headers.get("accept"))
        require_json_type(request.headers.get("content-type"))
        body = await read_body(request.stream(), request.headers.get("content-length"))
        admissible = check_body(parse_object(body), accept, self.live, self.rules)
        order = admissible.order
        with self.admission.admitted(order.request.n):
            drawn = await self.draw(order)
        self._count(order, drawn)
        headers = _headers(order, drawn)
        if admissible.raw:
            picture = drawn.pictures[0]
            return Response(picture.data, media_type=MEDIA_TYPES[order.encoding.format], headers=headers)
        answer = _answer(order, drawn, self.live.bundle)
        return Response(answer.model_dump_json(), media_type=JSON_TYPE, headers=headers)

    def _count(self, order: Order, drawn: Drawn) -> None:
        self.metrics.images.inc(len(drawn.pictures), tags={"format": order.encoding.format})
        if drawn.prompt_truncated:
            self.metrics.truncated_prompts.inc(tags={"field": "prompt"})
        if drawn.negative_prompt_truncated:
            self.metrics.truncated_prompts.inc(tags={"field": "negative_prompt"})


def add_body_schema(schema: dict[str, Any]) -> None:
    """Add the request body's schema to an OpenAPI document; the route reads the body itself, so FastAPI has not."""
    schema["components"]["schemas"]["GenerationBody"] = GenerationBody.model_json_schema()


def _headers(order: Order, drawn: Drawn) -> dict[str, str]:
    pins = ", ".join(f"{kind}={pin}" for kind, pin in order.pins.items())
    truncated = drawn.prompt_truncated or drawn.negative_prompt_truncated
    varied = {} if order.request.subseed is None else {"x-subseed": str(order.request.subseed)}
    return {
        "x-seed": str(order.request.seed),
        **varied,
        "x-component-versions": pins,
        "x-truncated": "true" if truncated else "false",
    }


def _answer(order: Order, drawn: Drawn, bundle: str) -> GenerationAnswer:
    request = order.request
    images = [
        GeneratedImage(b64_json=base64.b64encode(one.data).decode(), seed=one.seed, subseed=one.subseed)
        for one in drawn.pictures
    ]
    return GenerationAnswer(
        created=int(time()),
        data=images,
        model=bundle,
        output_format=order.encoding.format,
        size=f"{request.width}x{request.height}",
        seed=request.seed,
        prompt_truncated=drawn.prompt_truncated,
        negative_prompt_truncated=drawn.negative_prompt_truncated,
        components={kind.value: ComponentPin(**pin.model_dump()) for kind, pin in order.pins.items()},
    )
