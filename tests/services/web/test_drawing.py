"""Drawing in the page: what is sent, what is seen on the way, how it is left, and what goes wrong in words."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from components.contract import Kind
from services.errors import OverloadedError, ServingError
from services.messages import Drawn, Order, Progress, Queued, StageTimes
from tests.services.ingress.conftest import GENERATIONS, RETRY_AFTER_S, watch_at_once
from tests.services.web.browser import Visit
from tests.services.web.conftest import Studio, second_decoder
from tests.services.web.seen import colour_at, expect, shown

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def test_what_is_chosen_is_what_is_drawn(page: "Page", studio: Studio) -> None:
    page.fill("#prompt", "a red apple")
    page.click("summary:has-text('Negative prompt')")
    page.fill("#negative", "worms")
    page.select_option("#size", label="Another…")
    page.fill("#width", "128")
    page.fill("#height", "64")
    page.fill("#steps", "6")
    page.fill("#guidance", "3.25")
    page.select_option("#sampler", "dpmpp_2m")
    page.select_option("#schedule", "karras")
    page.fill("#seed", "9223372036854775806")
    page.click("summary:has-text('Versions')")
    page.select_option("#version-vae_decoder", "toy.vae_decoder/2")
    page.click("#draw")
    expect(page.locator("#details")).to_be_visible()
    request = studio.order.request
    assert (request.prompt, request.negative_prompt, request.n) == ("a red apple", "worms", 1)
    assert (request.width, request.height, request.steps, request.guidance) == (128, 64, 6, 3.25)
    assert (request.sampler, request.schedule, request.seed) == ("dpmpp_2m", "karras", 2**63 - 2)
    assert studio.order.pins[Kind.VAE_DECODER] == second_decoder(studio.server.pinning.record.live)
    assert shown(page, "Seed") == "9223372036854775806"
    assert shown(page, "VAE decoder") == "toy.vae_decoder/2"
    assert colour_at(page, "#viewer img", 10, 10) == ((2**63 - 2) % 256,) * 3


def test_the_defaults_are_the_servers_own(page: "Page", studio: Studio) -> None:
    page.fill("#prompt", "a boat")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#details")).to_be_visible()
    request = studio.order.request
    assert (request.steps, request.guidance, request.sampler, request.schedule) == (25, 5.0, "ddim", "default")
    assert (request.width, request.height) == (64, 64)
    assert page.input_value("#seed") == str(request.seed)
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(2)
    assert studio.order.request.seed != request.seed, "a seed that is not locked is another each time"
    page.click("#lock")
    locked = page.input_value("#seed")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(3)
    assert studio.order.request.seed == int(locked)


def test_previews_and_progress_are_seen_before_the_picture(page: "Page", studio: Studio) -> None:
    studio.stop_after = 12
    page.fill("#prompt", "a boat")
    page.fill("#seed", "7")
    page.click("#draw")
    expect(page.locator("#progress-said")).to_have_text("Step 12 of 25")
    expect(page.locator("#bar")).to_have_js_property("value", 12 / 25)
    expect(page.locator("#said")).to_have_text("25 percent.")
    expect(page.locator("#viewer img")).to_have_js_property("naturalWidth", 64)
    red, right = colour_at(page, "#viewer img", 5, 5), colour_at(page, "#viewer img", 60, 5)
    assert red[0] > 200 > right[0], "the left half of the preview is red"
    expect(page.locator("#gallery li")).to_have_count(0)
    studio.go_on.set()
    expect(page.locator("#said")).to_have_text("The picture is done.")
    assert colour_at(page, "#viewer img", 5, 5) == (7, 7, 7)
    expect(page.locator("#progress")).to_be_hidden()


@pytest.mark.parametrize("by", ["click", "Escape"])
def test_cancel_ends_the_walk_on_the_server(page: "Page", studio: Studio, by: str) -> None:
    studio.stop_after = 3
    page.fill("#prompt", "a boat")
    page.click("#draw")
    expect(page.locator("#progress-said")).to_have_text("Step 3 of 25")
    assert not studio.left.is_set()
    page.click("#cancel") if by == "click" else page.keyboard.press(by)
    expect(page.locator("#said")).to_have_text("Cancelled.")
    expect(page.locator("#draw")).to_be_focused()
    assert studio.left.wait(120)
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#empty")).to_be_visible()
    studio.stop_after = None
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(1)


def test_several_pictures_each_with_its_seed(page: "Page") -> None:
    page.fill("#prompt", "boats")
    page.fill("#count", "3")
    page.fill("#seed", "40")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(3)
    assert shown(page, "Seed") == "40"
    page.click("#viewer button >> nth=2")
    assert shown(page, "Seed") == "42"
    page.click("#reuse")
    assert (page.input_value("#seed"), page.input_value("#count")) == ("42", "1")


def test_styles_are_offered_for_the_bundle_that_learned_them(page: "Page", visit: Visit) -> None:
    expect(page.locator("#styles")).to_be_hidden()
    page.route("**/v1/capabilities", lambda route: route.fulfill(json={**route.fetch().json(), "model": "emoji"}))
    visit.open()
    page.fill("#prompt", "a red apple ")
    page.click("text=3d style")
    assert page.input_value("#prompt") == "a red apple, 3d style"
    page.click("text=flat style")
    assert page.input_value("#prompt") == "a red apple, flat style"
    expect(page.locator(".chip[aria-pressed=true]")).to_have_text("flat style")
    page.click("text=flat style")
    assert page.input_value("#prompt") == "a red apple"


def test_what_the_server_refuses_is_said_in_its_words(page: "Page", visit: Visit, studio: Studio) -> None:
    async def full(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        raise OverloadedError("too much waits; try again later")
        yield

    studio.server.watch = full
    visit.expected.append("429")
    page.fill("#prompt", "a boat")
    page.click("#draw")
    expect(page.locator("#problem-said")).to_have_text("too much waits; try again later")
    expect(page.locator("#again")).to_contain_text("Try again in")
    expect(page.locator("#again")).to_be_disabled()
    studio.server.watch = studio.watch
    expect(page.locator("#again")).to_be_enabled()
    page.click("#again")
    expect(page.locator("#gallery li")).to_have_count(1)
    expect(page.locator("#problem")).to_be_hidden()
    assert RETRY_AFTER_S > 1, "there is something to count"


def test_its_place_in_the_queue_and_then_where_the_time_went(page: "Page", studio: Studio) -> None:
    times = StageTimes(
        text_encoder_s=0.05,
        vae_encoder_s=None,
        queued_s=0.2,
        denoiser_s=0.7,
        vae_decoder_s=0.04,
        file_s=0.0104,
        total_s=1.01,
    )

    async def waits(order: Order, every: int) -> AsyncIterator[Progress | Queued | Drawn]:
        yield Queued(0, 3)
        while not studio.go_on.is_set():
            await asyncio.sleep(0.01)
        async for news in watch_at_once(order, every):
            if isinstance(news, Drawn):
                news = replace(news, pictures=tuple(replace(one, times=times) for one in news.pictures))
            yield news

    studio.server.watch = waits
    page.fill("#prompt", "a boat")
    page.click("#draw")
    expect(page.locator("#progress-said")).to_have_text("Position 3 in the queue")
    studio.go_on.set()
    expect(page.locator("#timings")).to_be_visible()
    told = page.locator("#stages li").all_inner_texts()
    assert [one.split() for one in told] == [
        ["Text", "encoder", "50", "ms"],
        ["Queue", "200", "ms"],
        ["Denoiser", "700", "ms"],
        ["VAE", "decoder", "40", "ms"],
        ["File", "10", "ms"],
    ]
    boxes = [bar.bounding_box() for bar in page.locator("#stages .span").all()]
    lefts = [box["x"] for box in boxes if box is not None]
    widths = [box["width"] for box in boxes if box is not None]
    assert lefts == sorted(lefts), "one after the other"
    assert widths[2] / widths[1] == pytest.approx(0.7 / 0.2, rel=0.05)
    # a picture of before, or of a server that does not say
    studio.server.watch = studio.watch
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(2)
    expect(page.locator("#timings")).to_be_hidden()


def test_an_error_on_the_way_is_said_too(page: "Page", studio: Studio) -> None:
    async def breaks(order: Order, every: int) -> AsyncIterator[Progress | Drawn]:
        async for news in watch_at_once(order, every):
            if isinstance(news, Progress) and news.step > 5:
                raise ServingError("denoiser: something went wrong")
            yield news

    studio.server.watch = breaks
    page.fill("#prompt", "a boat")
    page.click("#draw")
    expect(page.locator("#problem-said")).to_have_text("denoiser: something went wrong")
    expect(page.locator("#draw")).to_be_enabled()


def test_a_server_that_goes_away_is_no_riddle(page: "Page", visit: Visit) -> None:
    visit.expected.append("net::ERR_FAILED")
    page.route("**/v1/images/generations", lambda route: route.abort())
    page.fill("#prompt", "a boat")
    page.click("#draw")
    expect(page.locator("#problem-said")).to_contain_text("The server does not answer")


def test_a_picture_without_a_prompt_is_not_asked_for(page: "Page", studio: Studio) -> None:
    page.click("#draw")
    expect(page.locator("#problem-said")).to_have_text("Write what to draw first.")
    expect(page.locator("#prompt")).to_be_focused()
    assert studio.server.orders == []


def test_numbers_outside_the_limits_are_not_sent(page: "Page", studio: Studio) -> None:
    page.fill("#prompt", "a boat")
    page.fill("#steps", "151")
    page.click("#draw")
    assert page.evaluate("document.querySelector('#steps:invalid') !== null")
    page.fill("#steps", "150")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(1)
    assert [order.request.steps for order in studio.server.orders] == [150]


def test_a_download_is_the_servers_file(page: "Page", studio: Studio) -> None:
    page.fill("#prompt", "a boat")
    page.fill("#seed", "5")
    page.click("#draw")
    expect(page.locator("#details")).to_be_visible()
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "latentworks-5.png"
    body, headers = {"prompt": "a boat", "seed": 5}, {"accept": "image/png"}
    alone = httpx.post(studio.url + GENERATIONS, json=body, headers=headers, timeout=120)
    assert download.value.path().read_bytes() == alone.content
