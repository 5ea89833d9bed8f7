"""The waterfall of a picture's timeline: the spans that are its own, where and as long as they were."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.messages import Drawn, Order, Progress, StageTimes
from services.timelines.spans import Span
from tests.services.ingress.conftest import watch_at_once
from tests.services.web.browser import PHONE, Visit
from tests.services.web.conftest import Studio
from tests.services.web.seen import expect, fits

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

TIMES = StageTimes(
    text_encoder_s=0.5, vae_encoder_s=None, queued_s=0, denoiser_s=1, vae_decoder_s=1, file_s=1, total_s=10
)


class Proxy:
    """What Serve's proxy does: every answer has its request's id."""

    def __init__(self, app: ASGIApp, studio: Studio) -> None:
        self._app = app
        self._studio = studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", self._studio.server.request_id.encode())]
            await send(message)

        await self._app(scope, receive, with_id)


def picture_of(image: int, start: float) -> Span:
    runs = [
        Span("run", start + 3.0 + number, 0.5, facts={"runs": 1, "rows": 2 + 2 * image, "pictures": 1})
        for number in range(2)
    ]
    walk = Span("walk", start + 1.0, 4.0, parts=(Span("queue", start + 1.0, 2.0), *runs))
    # the wait of the call is a part of its own bar
    wait, decode = Span("queue", start + 5.0, 0.25), Span("decode", start + 5.25, 0.75)
    decoder, file = Span("vae_decoder", start + 5.0, 1.0, parts=(wait, decode)), Span("file", start + 6.0, 0.25)
    return Span("picture", start + 1.0, 6.0, facts={"image": image}, parts=(walk, decoder, file))


async def watch(order: Order, every: int) -> AsyncIterator[Progress | Drawn]:
    start = time.time()
    graph = Span(
        "graph", start, 8.0, parts=(Span("text_encoder", start, 1.0), picture_of(0, start), picture_of(1, start))
    )
    async for news in watch_at_once(order, every):
        if isinstance(news, Drawn):
            pictures = tuple(replace(one, times=TIMES) for one in news.pictures)
            yield replace(news, pictures=pictures, span=graph)
        else:
            yield news


@pytest.fixture
def page(visit: Visit, studio: Studio) -> "Page":
    studio.server.watch = watch
    studio.server.app.add_middleware(Proxy, studio=studio)
    return visit.open()


def rows(page: "Page") -> list[list[str]]:
    return [one.split() for one in page.locator("#stages li").all_inner_texts()]


def boxes(page: "Page", row: str) -> list[Any]:
    return [bar.bounding_box() for bar in page.locator(f"#stages li:has-text('{row}') .span").all()]


def test_each_picture_shows_its_own_runs_where_they_were(page: "Page") -> None:
    page.fill("#prompt", "a boat")
    page.fill("#count", "2")
    page.click("#draw")
    expect(page.locator("#timeline-said")).to_have_text(
        "2 runs of the denoiser, of 2 rows. Gaps are the ways between the stages."
    )
    told = {" ".join(row[:-2]): row[-2] for row in rows(page)}
    assert told.keys() == {"Admission", "Text encoder", "Queue", "Denoiser", "VAE decoder", "File"}
    assert [told[name] for name in ("Text encoder", "Queue", "Denoiser", "VAE decoder", "File")] == [
        "1000",
        "2000",
        "1000",
        "1000",
        "250",
    ]
    first, second = boxes(page, "Denoiser")
    [queue], [text] = boxes(page, "Queue"), boxes(page, "Text encoder")
    assert queue["width"] / text["width"] == pytest.approx(2, rel=0.1)
    assert (second["x"] - first["x"]) / first["width"] == pytest.approx(2, rel=0.1), "with a gap between them"
    page.locator("#viewer button").nth(1).click()
    expect(page.locator("#timeline-said")).to_contain_text("of 4 rows")


def test_without_a_timeline_the_times_by_stage_stay(page: "Page", visit: Visit) -> None:
    visit.expected.append("404")
    page.route("**/v1/requests/**", lambda route: route.continue_(url=f"{visit.url}/v1/requests/gone/timeline"))
    page.fill("#prompt", "a boat")
    with page.expect_response("**/timeline"):
        page.click("#draw")
    expect(page.locator("#stages li")).to_have_count(5)
    expect(page.locator("#timeline-said")).to_be_hidden()


def test_it_fits_on_a_phone(page: "Page") -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.fill("#prompt", "a boat")
    page.click("#draw")
    expect(page.locator("#timeline-said")).to_be_visible()
    assert fits(page)
