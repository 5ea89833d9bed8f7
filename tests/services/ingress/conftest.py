"""The HTTP application on a graph that draws at once."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Response
from pydantic import SecretStr

from components.contract import Contract
from components.reference import ComponentRef
from pipeline.request import RequestRules
from services.encoding import describe, finished_picture, origin_of
from services.errors import FieldError
from services.files.pictures import Link, PictureStore
from services.files.store import StoreSettings
from services.ingress.app import Face, create_app
from services.ingress.http.addresses import PublicAddress
from services.ingress.http.multipart import Uploads
from services.ingress.openai.edits import EditsFace
from services.ingress.openai.generations import ImagesFace
from services.ingress.operations.health import HealthFace
from services.ingress.operations.rollout import RolloutFace
from services.ingress.orders.admission import Admission
from services.ingress.orders.drawings import Drawings
from services.ingress.orders.links import LinksFace
from services.ingress.orders.orders import Orders
from services.ingress.orders.pinning import Pinning
from services.ingress.stories.verify import VerifyFace
from services.messages import Drawn, LiveModel, Order, Picture, PictureFormat, Progress, Queued
from services.metrics.ingress import IngressMetrics
from services.standing import Standing
from services.timelines.memory import Timelines, TimelineSettings
from tests.services.conftest import record_of

RETRY_AFTER_S = 3
HEARTBEAT_S = 0.05
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
    uploads: Uploads
    faces: list[Face]
    timelines: Timelines
    request_id: str = "a request"
    away_s: float | None = None
    orders: list[Order] = field(default_factory=list)
    draw: Callable[[Order], Awaitable[Drawn]] | None = None
    watch: Callable[[Order, int], AsyncIterator[Progress | Queued | Drawn]] | None = None
    keep: Callable[[bytes, PictureFormat], Link] | None = None
    now: float = field(default_factory=time.time)
    standings: dict[str, Standing] = field(default_factory=lambda: dict.fromkeys(DEPLOYMENTS, Standing(1, True)))

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return asyncio.run(self.arequest(method, path, **arguments))

    async def arequest(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **arguments)

    def generate(self, accept: str = "*/*", **body: Any) -> httpx.Response:
        headers = {"accept": accept, "content-type": "application/json"}
        return self.request("POST", GENERATIONS, content=json.dumps(body), headers=headers)


@contextmanager
def listening(server: Server) -> Iterator[str]:
    """The application behind a real socket: the address of a server in a thread."""
    config = uvicorn.Config(server.app, host="127.0.0.1", port=0, ws="none", lifespan="off", log_level="warning")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive(), "it could not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


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
        story = describe(one, order.pins, origin=origin_of(order), beside=order.beside)
        data = finished_picture(pixels, order, story)
        pictures.append(Picture(data, one.seed, one.subseed))
    words = [len(text.split()) for text in request.texts]
    return Drawn(tuple(pictures), words[0] > 5, len(request.negative_prompt.split()) > 5, sum(words))


async def watch_at_once(order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
    """A step of each picture in turn, with previews half of which are red, then what is drawn at once."""
    request, space = order.request, order.contract.latent_space if order.contract else None
    assert space is not None
    preview = np.zeros((request.height // space.downscale, request.width // space.downscale, 3), np.uint8)
    preview[:, : preview.shape[1] // 2, 0] = 255
    for step in range(1, request.steps + 1):
        due = preview_every and step % preview_every == 0 and step < request.steps
        for image in range(request.n):
            yield Progress(image, step, request.steps, preview if due else None)
    yield await draw_at_once(order)


async def no_jobs(*_: Any) -> Response:
    raise AssertionError("nothing is kept as a job here")


@pytest.fixture
def further_faces() -> Callable[[Orders, Uploads], list[Face]]:
    """Faces that only the tests of their own need: a folder's fixture of this name adds them."""
    return lambda _orders, _uploads: []


@pytest.fixture
def server(live: LiveModel, tmp_path: Path, further_faces: Callable[[Orders, Uploads], list[Face]]) -> Server:
    async def draw(order: Order) -> Drawn:
        made.orders.append(order)
        return await (draw_at_once if made.draw is None else made.draw)(order)

    async def watch(order: Order, preview_every: int) -> AsyncIterator[Progress | Queued | Drawn]:
        made.orders.append(order)
        async for news in (watch_at_once if made.watch is None else made.watch)(order, preview_every):
            yield news

    async def keep(data: bytes, format_: PictureFormat) -> Link:
        return (store.keep if made.keep is None else made.keep)(data, format_)

    async def read(link: Link) -> bytes:
        return store.read(link)

    async def standings() -> dict[str, Standing]:
        return made.standings

    async def metrics_page() -> bytes:
        return b"ray_latentworks_images_total 1.0\n"

    metrics = IngressMetrics()
    admission = Admission(4, metrics.admitted_images.set)
    controller = FakeController()
    pinning = Pinning(cast(Any, controller), record_of(live))
    settings = StoreSettings(store=str(tmp_path / "pictures"), most_bytes=2**20, keep_s=3600)
    links = LinksFace(keep, read, PublicAddress())
    timelines = Timelines(TimelineSettings(most_spans=100), "here")
    drawings = Drawings(draw, watch, links, pinning, metrics, timelines, HEARTBEAT_S)
    orders = Orders(pinning, RequestRules(), drawings, lambda: made.request_id, admission, no_jobs)
    uploads = Uploads()
    images, edits = ImagesFace(pinning, orders, uploads), EditsFace(orders, uploads)
    health = HealthFace(standings, metrics_page, admission, lambda: made.away_s)
    rollout = RolloutFace(controller.show, controller.hint, SecretStr("a secret"))
    verify = VerifyFace(orders, uploads)
    faces: list[Face] = [images, edits, verify, links, health, rollout, *further_faces(orders, uploads)]
    app = create_app(faces, metrics, RETRY_AFTER_S)
    made = Server(app, admission, metrics, pinning, controller, uploads, faces, timelines)
    # the store takes the time at its start
    store = PictureStore(settings, lambda _: None, lambda: made.now)
    return made
