"""The whole page on the ingress over stages that draw at once, behind a real socket, in a real browser."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from components.contract import Kind
from components.messages import Pixels
from components.reference import ComponentRef
from pipeline.request import RequestRules
from services.comparison import difference
from services.encoding import encode_picture
from services.errors import LatentsNotFoundError
from services.ingress.app import Face, create_app
from services.ingress.latents.face import LatentsFace
from services.ingress.operations.page import PageFace
from services.ingress.orders.capabilities import CapabilitiesFace
from services.ingress.stories.inspect import InspectFace
from services.ingress.timelines.face import TimelinesFace
from services.keys.keyring import Keyring
from services.latents.records import Compared, CompareOrder, DecodeOrder, KeptLatents
from services.messages import Drawn, Encoding, LiveModel, Order, Picture, Progress
from services.timelines.memory import Timeline
from tests.requests import image_request
from tests.services.conftest import record_of
from tests.services.ingress.conftest import RETRY_AFTER_S, Server, listening, watch_at_once
from tests.services.ingress.conftest import further_faces as further_faces
from tests.services.ingress.conftest import server as server
from tests.services.web.browser import Visit, chromium, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LATENTS = "kept-1"
_SIDE = 64


def decoded(version: int) -> Pixels:
    """What a version of the VAE decoder makes of any latents: the second is brighter by up to 15 towards the right."""
    ramp = np.broadcast_to(np.arange(_SIDE, dtype=np.uint8)[None, :, None] // 4, (_SIDE, _SIDE, 3))
    return (np.uint8(100) + (ramp if version == 2 else np.zeros_like(ramp))).astype(np.uint8)


@dataclass
class Studio:
    """The server under the page, and what a test may set or look at.

    A drawing stops before it tells of the step after `stop_after`, until `go_on` is set; `left` is set once one ended
    before its pictures were there.
    """

    server: Server
    url: str = ""
    stop_after: int | None = None
    go_on: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    compared: list[CompareOrder] = field(default_factory=list)

    @property
    def order(self) -> Order:
        """The last order."""
        return self.server.orders[-1]

    async def watch(self, order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
        whole = False
        try:
            async for news in watch_at_once(order, preview_every):
                if isinstance(news, Drawn):
                    news = _kept(news) if order.store_latents else news
                elif self.stop_after is not None and news.step > self.stop_after:
                    while not self.go_on.is_set():
                        await asyncio.sleep(0.01)
                yield news
                whole = isinstance(news, Drawn)
        finally:
            if not whole:
                self.left.set()

    async def read(self, id_: str, _owner: str) -> KeptLatents:
        if id_ != LATENTS:
            raise LatentsNotFoundError("id: there are no such latents", "id")
        live = self.server.pinning.record.live
        kept = np.zeros((1, 4, 8, 8), np.float32)
        return KeptLatents(
            latents=kept, request=image_request(), pins=live.pins, contract=live.contracts[Kind.DENOISER]
        )

    async def decode(self, order: DecodeOrder) -> Picture:
        return Picture(encode_picture(decoded(order.decoder.version), order.encoding, "{}"), 7, decoder=order.decoder)

    async def compare(self, order: CompareOrder) -> Compared:
        self.compared.append(order)
        pictures = [decoded(pin.version) for pin in order.decoders]
        found = difference(*pictures)
        files = tuple(encode_picture(one, Encoding(), "{}") for one in pictures)
        return Compared(files=files, psnr_db=found.psnr_db, max_difference=found.largest, factor=found.factor)

    async def timeline(self, request_id: str, owner: str) -> Timeline | None:
        return self.server.timelines.find(request_id, owner)

    def use(self, keyring: Keyring | None = None) -> None:
        """Put the application together; with a keyring it asks for keys."""
        server = self.server
        latents = LatentsFace(server.pinning, self.read, self.decode, self.compare, server.admission, server.metrics)
        ours: list[Face] = [
            InspectFace(server.uploads),
            CapabilitiesFace(server.pinning, RequestRules()),
            latents,
            TimelinesFace(self.timeline),
            PageFace(),
        ]
        server.app = create_app([*server.faces, *ours], server.metrics, RETRY_AFTER_S, keyring)


def _kept(drawn: Drawn) -> Drawn:
    return replace(drawn, pictures=tuple(replace(one, latents=LATENTS) for one in drawn.pictures))


def second_decoder(live: LiveModel) -> ComponentRef:
    """Another version of the VAE decoder."""
    return live.pins[Kind.VAE_DECODER].model_copy(update={"version": 2, "sha256": "2" * 64})


@pytest.fixture
def studio(server: Server, live: LiveModel) -> Iterator[Studio]:
    made, second = Studio(server), second_decoder(live)
    contract = live.contracts[Kind.VAE_DECODER]
    for pin in (live.pins[Kind.VAE_DECODER], second):
        server.controller.versions[str(pin)] = (pin, contract)
    server.pinning.record = record_of(live, aliases={second.name: {"candidate": second}})
    server.watch = made.watch
    made.use()
    yield made
    made.go_on.set()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: "Browser", studio: Studio) -> Iterator[Visit]:
    with listening(studio.server) as url:
        studio.url = url
        try:
            with visiting(browser, url) as made:
                yield made
        finally:
            # whoever still draws would keep the server from its end
            studio.go_on.set()


@pytest.fixture
def page(visit: Visit) -> "Page":
    return visit.open()
