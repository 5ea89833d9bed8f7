"""What is drawn and stays: the gallery, settings to reuse, and two decoders compared."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from components.contract import Kind
from services.comparison import psnr_db
from tests.services.web.browser import Visit
from tests.services.web.conftest import LATENTS, Studio, decoded
from tests.services.web.seen import colour_at, expect, shown

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def draw(page: "Page", prompt: str, seed: int) -> None:
    kept = page.locator("#gallery li").count()
    page.fill("#prompt", prompt)
    page.fill("#seed", str(seed))
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(kept + 1)
    expect(page.locator("#draw")).to_be_visible()


def test_settings_are_reused_from_the_gallery_after_a_reload(page: "Page", visit: Visit, studio: Studio) -> None:
    page.fill("#guidance", "7.5")
    page.select_option("#sampler", "euler")
    page.select_option("#schedule", "beta")
    page.fill("#steps", "8")
    draw(page, "a red apple", 11)
    page.click("#reset")
    draw(page, "a blue boat", 12)
    visit.open()
    expect(page.locator("#gallery li")).to_have_count(2)
    page.click("#gallery button >> nth=1")
    expect(page.locator("#stage")).to_be_focused()
    assert (shown(page, "Prompt"), shown(page, "Seed")) == ("a red apple", "11")
    assert colour_at(page, "#viewer img", 3, 3) == (11, 11, 11)
    page.click("#reuse")
    assert page.input_value("#prompt") == "a red apple"
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(3)
    request = studio.order.request
    assert (request.seed, request.steps, request.guidance) == (11, 8, 7.5)
    assert (request.sampler, request.schedule) == ("euler", "beta")


def test_a_picture_of_another_version_is_reused_with_that(page: "Page", studio: Studio) -> None:
    page.click("summary:has-text('Versions')")
    page.select_option("#version-vae_decoder", "toy.vae_decoder/2")
    draw(page, "a red apple", 1)
    page.select_option("#version-vae_decoder", "")
    page.click("#reuse")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(2)
    assert studio.order.pins[Kind.VAE_DECODER].version == 2


def test_what_is_deleted_is_gone_for_good(page: "Page", visit: Visit) -> None:
    for seed in (1, 2, 3):
        draw(page, "a boat", seed)
    page.click("#remove")
    expect(page.locator("#gallery li")).to_have_count(2)
    expect(page.locator("#empty")).to_be_visible()
    visit.open()
    expect(page.locator("#gallery li")).to_have_count(2)
    page.click("#clear-gallery")
    expect(page.locator("#clear-gallery")).to_have_text("Delete all?")
    expect(page.locator("#gallery li")).to_have_count(2)
    page.click("#clear-gallery")
    expect(page.locator("#gallery li")).to_have_count(0)
    visit.open()
    expect(page.locator("#gallery li")).to_have_count(0)


def test_the_gallery_is_bounded(page: "Page", visit: Visit) -> None:
    draw(page, "the oldest", 1)
    page.fill("#count", "4")
    for index in range(15):
        page.fill("#seed", str(100 * index + 100))
        page.click("#draw")
        expect(page.locator("#gallery button >> nth=0")).to_have_attribute(
            "title", f"the oldest, seed {100 * index + 103}"
        )
        expect(page.locator("#draw")).to_be_visible()
    expect(page.locator("#gallery li")).to_have_count(60)
    expect(page.locator("#gallery button >> nth=59")).to_have_attribute("title", "the oldest, seed 100")
    visit.open()
    expect(page.locator("#gallery li")).to_have_count(60)


def test_a_browser_that_keeps_nothing_has_a_gallery_all_the_same(visit: Visit) -> None:
    visit.page.add_init_script("Object.defineProperty(window, 'indexedDB', { value: undefined })")
    page = visit.open()
    draw(page, "a boat", 1)
    page.click("#remove")
    expect(page.locator("#gallery li")).to_have_count(0)


def test_two_decoders_are_compared_on_the_same_latents(page: "Page", studio: Studio) -> None:
    draw(page, "a red apple", 1)
    assert studio.order.store_latents
    page.click("#compare-this")
    expect(page.locator("#compared")).to_be_visible()
    first, second = decoded(1), decoded(2)
    [order] = studio.compared
    assert [str(pin) for pin in order.decoders] == ["toy.vae_decoder/1", "toy.vae_decoder/2"]
    figures = page.locator("#figures dd").all_inner_texts()
    assert figures == [f"{psnr_db(first, second):.2f} dB", "15 of 255"]
    for x in (0, 33, 63):
        assert colour_at(page, "#picture-a", x, 9) == tuple(first[9, x])
        assert colour_at(page, "#picture-b", x, 9) == tuple(second[9, x])
    # the largest difference, 15, times 16: the largest power of two that keeps it within 255
    expect(page.locator("#name-difference")).to_have_text("Difference, 16 times")
    lightness = [sum(colour_at(page, "#difference", x, 9)) for x in range(0, 64, 4)]
    assert lightness[0] == 0
    assert (np.diff(lightness) > 0).all(), "lighter is more"
    page.select_option("#second", "toy.vae_decoder/1")
    page.click("#compare")
    expect(page.locator("#figures dd >> nth=0")).to_have_text("∞, they are the same")
    page.fill("#wipe-at", "25")
    assert page.evaluate("getComputedStyle(document.querySelector('#wipe-a')).clipPath").count("75%") == 1


def test_latents_that_are_gone_are_said_so(page: "Page", visit: Visit) -> None:
    draw(page, "a red apple", 1)
    visit.expected.append("404")
    page.route(
        f"**/v1/latents/{LATENTS}/**", lambda route: route.continue_(url=route.request.url.replace(LATENTS, "x"))
    )
    page.click("#compare-this")
    expect(page.locator("#compare-problem")).to_contain_text("there are no such latents")
    page.click("#comparison-close")
    expect(page.locator("#comparison")).to_be_hidden()


def test_pictures_without_latents_are_not_compared(page: "Page", studio: Studio) -> None:
    page.click("summary:has-text('Versions')")
    page.uncheck("#keep-latents")
    draw(page, "a red apple", 1)
    assert not studio.order.store_latents
    expect(page.locator("#compare-this")).to_be_disabled()
    expect(page.locator("#compare-why")).to_be_visible()
