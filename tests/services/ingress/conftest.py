"""The HTTP application on a graph that draws at once."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from components.contract import Contract
from components.reference import ComponentRef
from pipeline.request import RequestRules
from services.encoding import describe, encode_picture
from services.errors import FieldError
from services.ingress.admission import Admission
from services.ingress.app import create_app
from services.ingress.health import HealthFace
from services.ingress.openai import ImagesFace
from services.ingress.pinning import Pinning
from services.ingress.rollout import RolloutFace
from services.messages import Drawn, LiveModel, Order, Picture
from services.metrics import IngressMetrics
from tests.services.conftest import record_of

RETRY_AFTER_S = 3
GENERATIONS = "/v1/images/generations"
DEPLOYMENTS = ("rollout", "text_encoder", "denoiser", "vae_decoder", "vae_encoder", "latents", "graph", "ingress")


class FakeController:
    """The rollout controller's handle, which knows the versions that a test gives it by what a caller writes."""

    def __init__(self) -> None:
        self.versions: dict[str, tuple[ComponentRef, Contract]] = {}
        self.hints = 0
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.component = self
        self.status: dict[str, Any] = {"bundle": "toy"}

    async def remote(self, selector: str, field: str) -> tuple[ComponentRef, Contract]:
        self.asked.append(selector)
        await self.answers.wait()
        if selector not in self.versions:
            raise FieldError(f"{field}: {selector} is not in the registry", field)
        return self.versions[selector]

    async def show(self) -> dict[str, Any]:
        return self.status

    async def hint(self) -> None:
        self.hints += 1


@dataclass
class Server:
    """The application, and what a test may set or look at."""

    app: FastAPI
    admission: Admission
    metrics: IngressMetrics
    pinning: Pinning
    controller: "FakeController"
    request_id: str = "a request"
    away_s: float | None = None
    orders: list[Order] = field(default_factory=list)
    draw: Callable[[Order], Awaitable[Drawn]] | None = None
    replicas: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DEPLOYMENTS, 1))

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return asyncio.run(self.arequest(method, path, **arguments))

    async def arequest(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **arguments)

    def generate(self, accept: str = "*/*", **body: Any) -> httpx.Response:
        headers = {"accept": accept, "content-type": "application/json"}
        return self.request("POST", GENERATIONS, content=json.dumps(body), headers=headers)


def error_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


async def draw_at_once(order: Order) -> Drawn:
    """Pictures of one colour, which the seed chooses; prompts of more than five words count as cut."""
    request, pictures = order.request, []
    for one in map(request.picture, range(request.n)):
        pixels = np.full((request.height, request.width, 3), one.seed % 256, np.uint8)
        data = encode_picture(pixels, order.encoding, describe(one, order.pins))
        pictures.append(Picture(data, one.seed, one.subseed))
    return Drawn(tuple(pictures), len(request.prompt.split()) > 5, len(request.negative_prompt.split()) > 5)


@pytest.fixture
def server(live: LiveModel) -> Server:
    async def draw(order: Order) -> Drawn:
        made.orders.append(order)
        return await (draw_at_once if made.draw is None else made.draw)(order)

    async def replicas() -> dict[str, int]:
        return made.replicas

    async def metrics_page() -> bytes:
        return b"ray_latentworks_images_total 1.0\n"

    metrics = IngressMetrics()
    admission = Admission(4, metrics.admitted_images.set)
    controller = FakeController()
    pinning = Pinning(cast(Any, controller), record_of(live))
    images = ImagesFace(pinning, RequestRules(), draw, lambda: made.request_id, admission, metrics)
    health = HealthFace(replicas, metrics_page, admission, lambda: made.away_s)
    rollout = RolloutFace(controller.show, controller.hint, SecretStr("a secret"))
    app = create_app([images, health, rollout], metrics, RETRY_AFTER_S)
    made = Server(app, admission, metrics, pinning, controller)
    return made
