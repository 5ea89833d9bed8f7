"""Pictures that somebody brings to the page: their stories, and edits of them with and without a mask."""

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components.contract import Kind
from services.encoding import describe, encode_picture
from services.messages import Encoding, LiveModel
from tests.requests import image_request
from tests.services.web.browser import Visit
from tests.services.web.conftest import Studio, second_decoder
from tests.services.web.seen import expect, shown

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

SIDE = 128
# what of the picture's height and width the brush goes over
_PLACES = (0.25, 0.75)

_DROP = """([name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""

_NOTE_FIELDS = """() => {
  const { append } = FormData.prototype;
  window.named = [];
  FormData.prototype.append = function (name, ...rest) {
    window.named.push(name);
    return append.call(this, name, ...rest);
  };
}"""


def drop(page: "Page", data: bytes, type_: str = "image/png") -> None:
    page.evaluate(_DROP, ["picture", type_, base64.b64encode(data).decode()])


def colours() -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """A picture of which each quarter has another colour."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    half = SIDE // 2
    pixels[:half, :half], pixels[:half, half:], pixels[half:, :half] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    return pixels


def picture(path: Path) -> Path:
    Image.fromarray(colours()).save(path)
    return path


def edit(page: "Page", path: Path) -> None:
    page.set_input_files("#file", path)
    page.click("#brought-edit")
    expect(page.locator("#mask")).to_be_visible()


def painted(page: "Page", xs: tuple[float, float], y: float) -> None:
    """One stroke of the brush, at shares of the picture's width and height."""
    box = page.locator("#mask").bounding_box()
    assert box is not None
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x in xs]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=8)
    page.mouse.up()


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
def test_a_dropped_picture_gives_its_settings_back(page: "Page", studio: Studio, live: LiveModel, format_: Any) -> None:
    settings = {"sampler": "euler", "schedule": "karras", "rng": "philox", "seed": 2**63 - 5, "steps": 9}
    request = image_request(prompt="an owl — “wise”", negative_prompt="mice", guidance=4.5, width=128, **settings)
    pins = {**live.pins, Kind.VAE_DECODER: second_decoder(live)}
    drop(page, encode_picture(colours()[:64], Encoding(format_), describe(request, pins)), f"image/{format_}")
    expect(page.locator("#brought-story")).to_have_text("Made by Latentworks: “an owl — “wise””")
    page.click("#brought-load")
    assert page.input_value("#prompt") == "an owl — “wise”"
    assert page.input_value("#seed") == str(2**63 - 5)
    expect(page.locator("#further button")).to_contain_text("rng philox")
    page.click("#draw")
    expect(page.locator("#details")).to_be_visible()
    drawn = studio.order.request
    assert (drawn.prompt, drawn.negative_prompt, drawn.width, drawn.height) == ("an owl — “wise”", "mice", 128, 64)
    assert {name: getattr(drawn, name) for name in settings} == settings
    assert drawn.guidance == 4.5
    assert studio.order.pins[Kind.VAE_DECODER].version == 2
    page.click("#further button")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(2)
    assert studio.order.request.rng == "torch"


def test_an_infotext_of_another_program_is_read(page: "Page") -> None:
    texts = PngInfo()
    texts.add_text("parameters", "an owl\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Wildness: 2")
    out = io.BytesIO()
    Image.fromarray(colours()).save(out, "PNG", pnginfo=texts)
    drop(page, out.getvalue())
    expect(page.locator("#brought-story")).to_contain_text("writes as A1111 does: “an owl”")
    expect(page.locator("#brought-unknown")).to_contain_text(re.compile("Not understood: wildness: 2", re.IGNORECASE))
    page.click("#brought-load")
    assert page.input_value("#sampler") == "euler_ancestral"
    assert (page.input_value("#steps"), page.input_value("#guidance")) == ("20", "7")


def test_a_picture_with_no_story_says_so(page: "Page", tmp_path: Path) -> None:
    page.set_input_files("#file", picture(tmp_path / "plain.png"))
    expect(page.locator("#brought-story")).to_have_text("Nothing in the file says how it was made.")
    expect(page.locator("#brought-load")).to_be_hidden()
    page.click("#brought-close")
    expect(page.locator("#drop")).to_be_visible()


def test_what_is_no_picture_is_refused_in_words(page: "Page", visit: Visit) -> None:
    drop(page, b"words", "text/plain")
    expect(page.locator("#problem-said")).to_have_text("This is no picture.")
    visit.expected.append("422")
    drop(page, b"\x89PNG\r\n\x1a\n and no more of it")
    expect(page.locator("#brought-story")).not_to_have_text("Reading…")


def test_a_story_is_text_whatever_it_holds(page: "Page", live: LiveModel) -> None:
    hostile = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    story = describe(image_request(prompt=hostile), live.pins)
    drop(page, encode_picture(colours(), Encoding(), story))
    expect(page.locator("#brought-story")).to_contain_text(hostile[:40])
    page.click("#brought-load")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(1)
    assert shown(page, "Prompt") == hostile
    assert page.title() == "Latentworks"


def test_an_edit_sends_the_picture_and_what_is_painted(page: "Page", studio: Studio, tmp_path: Path) -> None:
    edit(page, picture(tmp_path / "source.png"))
    assert page.input_value("#strength") == "0.8"
    page.fill("#brush", "20")
    painted(page, _PLACES, 0.25)
    assert page.input_value("#strength") == "1", "a mask leaves nothing of what it covers"
    page.fill("#prompt", "a green boat")
    page.fill("#steps", "5")
    page.select_option("#size", label="Another…")
    page.fill("#width", str(SIDE))
    page.fill("#height", str(SIDE))
    page.click("#draw")
    expect(page.locator("#details")).to_be_visible()
    source, request = studio.order.source, studio.order.request
    assert source is not None
    assert source.mask is not None
    np.testing.assert_array_equal(source.pixels[0], colours())
    assert (request.prompt, request.strength) == ("a green boat", 1.0)
    # a stroke from a quarter to three quarters of the width, at a quarter of the height, a fifth of the side thick
    rows, columns = np.mgrid[0:SIDE:8, 0:SIDE:8] / SIDE
    across = np.clip(columns, *_PLACES)
    distance = np.hypot(rows - 0.25, columns - across)
    unsure = np.abs(distance - 0.1) < 0.03
    np.testing.assert_array_equal(source.mask[~unsure], (distance < 0.1)[~unsure])
    expect(page.locator("#told")).to_contain_text("Made from a picture with a mask")
    assert shown(page, "Strength") == "1"


def test_what_is_erased_inverted_or_cleared_is_not_painted(page: "Page", studio: Studio, tmp_path: Path) -> None:
    edit(page, picture(tmp_path / "source.png"))
    page.fill("#prompt", "a boat")
    painted(page, _PLACES, 0.5)
    page.click("#erase")
    page.fill("#brush", "50")
    painted(page, (0.1, 0.9), 0.5)
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(1)
    assert studio.order.source is not None
    assert studio.order.source.mask is None
    assert studio.order.request.strength == 0.8
    page.click("#invert")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(2)
    assert studio.order.source.mask is not None
    assert studio.order.source.mask.all()
    page.click("#clear-mask")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(3)
    assert studio.order.source.mask is None


def test_a_mask_is_painted_without_a_pointer(page: "Page", studio: Studio, tmp_path: Path) -> None:
    edit(page, picture(tmp_path / "source.png"))
    expect(page.locator("#mask")).to_be_focused()
    page.keyboard.press("Space")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    page.fill("#prompt", "a boat")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#gallery li")).to_have_count(1)
    source = studio.order.source
    assert source is not None
    assert source.mask is not None
    half = source.mask.shape[0] // 2
    assert source.mask[half, half:].any()
    assert not source.mask[:, : half // 2].any()
    assert not source.mask[-2:].any(), "a brush that is up leaves nothing"


def test_an_edit_has_the_pictures_proportions_and_may_be_left(page: "Page", studio: Studio, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(colours()[:64]).save(path)
    edit(page, path)
    page.fill("#strength", "0.35")
    page.evaluate(_NOTE_FIELDS)
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(1)
    # the server takes the picture's proportions where no size is named
    named = page.evaluate("window.named")
    assert "size" not in named
    assert {"image", "strength", "sampler"} <= set(named)
    request = studio.order.request
    assert request.strength == 0.35
    assert request.prompt == "", "a picture says enough"
    page.click("#edit-close")
    page.fill("#prompt", "a boat")
    page.click("#draw")
    expect(page.locator("#gallery li")).to_have_count(2)
    assert studio.order.source is None
    assert (studio.order.request.width, studio.order.request.height) == (64, 64)
