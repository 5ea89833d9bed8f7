"""OpenAI's images face: pictures from prompts, and the list of models."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import time
from typing import Any

from fastapi import APIRouter, Request, Response

from components.contract import Kind
from components.reference import kind_of
from pipeline.request import RequestRules
from services.ingress.admission import Admission
from services.ingress.answers import ANSWERS, answer_of, headers_of
from services.ingress.body import JSON_TYPE, parse_object, read_body, require_json_type
from services.ingress.fields import check_form, order_of, require_model, typed_body
from services.ingress.media_types import MEDIA_TYPES, wanted
from services.ingress.outcomes import outcomes_of
from services.ingress.pinning import Pinning, choices
from services.ingress.schemas import GenerationBody, Model, ModelList
from services.messages import Drawn, Order
from services.metrics import IngressMetrics

_BODY = {
    "requestBody": {
        "required": True,
        "content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/GenerationBody"}}},
    }
}


@dataclass(frozen=True, slots=True)
class ImagesFace:
    """What the face needs of the rest of the server; `draw` makes an order's pictures."""

    pinning: Pinning
    rules: RequestRules
    draw: Callable[[Order], Awaitable[Drawn]]
    request_id: Callable[[], str]
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
            responses=ANSWERS,
            openapi_extra=_BODY,
        )
        router.add_api_route("/models", self.models, methods=["GET"], response_model=ModelList)
        return router

    async def models(self) -> ModelList:
        """List the served bundles."""
        return ModelList(data=[Model(id=self.pinning.record.live.bundle, created=self.started)])

    async def generate(self, request: Request) -> Response:
        """Draw pictures from a prompt."""
        accept = wanted(request.headers.get("accept"))
        require_json_type(request.headers.get("content-type"))
        content = await read_body(request.stream(), request.headers.get("content-length"))
        body = typed_body(parse_object(content))
        bundle = self.pinning.record.live.bundle
        require_model(body, bundle)
        chosen = choices(body.components or {})
        form = check_form(body, accept, self.rules)
        order, request_id = None, self.request_id()
        if Kind.DENOISER not in chosen:
            # its limits are known here, so that what they refuse takes nobody's time or place
            known = self.pinning.live(request_id) if chosen else self.pinning.pin(request_id, form.terms.tenant)
            order = order_of(body, form, known, self.rules, request_id)
        with self.admission.admitted(form.images):
            if order is None or chosen:
                pinned = await self.pinning.choose(request_id, chosen)
                order = order_of(body, form, pinned, self.rules, request_id)
            try:
                drawn = await self.draw(order)
            except Exception as error:
                self._ended(order, error, bool(chosen))
                raise
        self._ended(order, drawn, bool(chosen))
        self._count(order, drawn)
        headers = headers_of(order, drawn)
        if form.raw:
            picture = drawn.pictures[0]
            return Response(picture.data, media_type=MEDIA_TYPES[order.encoding.format], headers=headers)
        answer = answer_of(order, drawn, bundle)
        return Response(answer.model_dump_json(), media_type=JSON_TYPE, headers=headers)

    def _ended(self, order: Order, end: Drawn | Exception, chosen: bool) -> None:
        outcomes = outcomes_of(order, end)
        if not chosen:
            # what a caller put together says nothing for or against a canary
            self.pinning.ended(outcomes)
        for one in outcomes:
            outcome = "non_finite" if one.non_finite else "error" if one.error else "ok"
            labels = {"stage": kind_of(one.pin.name).value, "version": str(one.pin), "outcome": outcome}
            self.metrics.version_requests.inc(tags=labels)

    def _count(self, order: Order, drawn: Drawn) -> None:
        self.metrics.images.inc(len(drawn.pictures), tags={"format": order.encoding.format})
        if drawn.prompt_truncated:
            self.metrics.truncated_prompts.inc(tags={"field": "prompt"})
        if drawn.negative_prompt_truncated:
            self.metrics.truncated_prompts.inc(tags={"field": "negative_prompt"})


def add_body_schema(schema: dict[str, Any]) -> None:
    """Add the request body's schema to an OpenAPI document; the route reads the body itself, so FastAPI has not."""
    schema["components"]["schemas"]["GenerationBody"] = GenerationBody.model_json_schema()
