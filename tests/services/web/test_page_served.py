"""The page on the bundled model, served by a real cluster."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.services.cluster import Application, Cluster
from tests.services.server import ROOT
from tests.services.web.browser import chromium, visiting
from tests.services.web.seen import colour_at, expect, shown
from tests.services.web.test_pictures_brought import painted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def emoji(cluster: Cluster) -> Iterator[Application]:
    with cluster.deployed("page", "emoji", ROOT / "models" / "emoji") as application:
        yield application


# The browser's own event loop runs in this thread from here on, where Ray takes no calls: what is deployed comes first.
@pytest.fixture(scope="module")
def browser(emoji: Application) -> Iterator["Browser"]:  # noqa: ARG001
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: "Browser", emoji: Application) -> Iterator["Page"]:
    with visiting(browser, emoji.url) as visit:
        yield visit.open()


def draw(page: "Page", prompt: str, seed: int) -> None:
    kept = page.locator("#gallery li").count()
    page.fill("#prompt", prompt)
    page.fill("#seed", str(seed))
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(kept + 1)
    expect(page.locator("#draw")).to_be_visible()


def downloaded(page: "Page") -> bytes:
    with page.expect_download() as download:
        page.click("#download")
    return download.value.path().read_bytes()


def pixels(data: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.int16]]":
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int16)


def test_the_page_draws_what_the_api_draws(page: "Page", emoji: Application) -> None:
    page.fill("#prompt", "a red apple")
    page.click("text=3d style")
    draw(page, page.input_value("#prompt"), 1)
    alone = emoji.generate(prompt="a red apple, 3d style", seed=1)
    assert downloaded(page) == alone.content
    assert shown(page, "VAE decoder") == "emoji.vae_decoder/1"
    # by the answer's timings first, then by its timeline, which knows of the admission too
    stages = ["Admission", "Text encoder", "Queue", "Denoiser", "VAE decoder", "File"]
    expect(page.locator("#stages .stage-name")).to_have_text(stages)


def test_previews_come_while_it_is_drawn(page: "Page") -> None:
    page.evaluate(
        """() => {
          window.seen = new Set();
          new MutationObserver(() => {
            const picture = document.querySelector("#viewer img");
            if (picture?.src) window.seen.add(picture.src);
          }).observe(document.querySelector("#viewer"), { attributes: true, subtree: true, attributeFilter: ["src"] });
        }"""
    )
    page.fill("#steps", "40")
    draw(page, "a red apple, 3d style", 1)
    assert page.evaluate("window.seen.size") == 4, "three previews and the picture"


def test_a_drawing_that_is_left_is_ended(page: "Page", emoji: Application) -> None:
    page.fill("#steps", "150")
    page.fill("#count", "8")
    page.fill("#prompt", "a red apple, 3d style")
    page.click("#draw")
    expect(page.locator("#progress-said")).to_contain_text("Step")
    page.click("#cancel")
    expect(page.locator("#said")).to_have_text("Cancelled.")
    assert emoji.metric_reaches(1, "latentworks_requests_total", 'status="499"')


def test_an_edit_changes_what_is_painted_and_leaves_the_rest(page: "Page") -> None:
    draw(page, "a red apple, 3d style", 1)
    before = pixels(downloaded(page))
    page.click("#edit-this")
    expect(page.locator("#mask")).to_be_visible()
    page.fill("#brush", "40")
    painted(page, (0.5, 0.5), 0.5)
    page.fill("#prompt", "a green apple, 3d style")
    page.fill("#seed", "2")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(2)
    after = pixels(downloaded(page))
    changed = np.abs(after - before).max(axis=2)
    side = before.shape[0]
    assert changed[side // 2 - 8 : side // 2 + 8, side // 2 - 8 : side // 2 + 8].mean() > 20
    assert changed[: side // 8].mean() < 10


def test_two_decoders_of_the_bundle_are_compared(page: "Page") -> None:
    draw(page, "a red apple, 3d style", 1)
    page.click("#compare-this")
    expect(page.locator("#compared")).to_be_visible()
    psnr, largest = page.locator("#figures dd").all_inner_texts()
    assert 20 < float(psnr.removesuffix(" dB")) < 60
    assert largest != "0 of 255"
    assert colour_at(page, "#picture-a", 64, 64) != (0, 0, 0)


def test_a_picture_that_is_dropped_is_drawn_again(page: "Page", tmp_path: Path) -> None:
    draw(page, "a red apple, flat style", 4)
    first = downloaded(page)
    (tmp_path / "apple.png").write_bytes(first)
    page.click("#reset")
    page.fill("#prompt", "")
    page.set_input_files("#file", tmp_path / "apple.png")
    page.click("#brought-load")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(2)
    assert downloaded(page) == first
