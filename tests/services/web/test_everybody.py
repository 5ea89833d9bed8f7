"""For everybody: by keyboard alone, on a phone, in light and dark, by WCAG's AA; and with a key."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.keys.keyring import Keyring
from services.keys.records import KeyRecord, digest_of
from services.keys.settings import KeyLimits
from tests.services.ingress.conftest import listening
from tests.services.web.browser import PHONE, visiting
from tests.services.web.conftest import Studio
from tests.services.web.seen import expect, fits
from tests.services.web.test_pictures_brought import edit, picture
from tests.services.web.test_results import draw

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

KEY = "lw-ann-1f"

_UNSEEN = """() => {
  const style = getComputedStyle(document.activeElement);
  // the mask's is around the picture under it; at the page's end the browser itself has the focus
  return style.outlineStyle === "none" && !document.activeElement.matches("#mask, body");
}"""


def everything_open(page: "Page", path: Path) -> None:
    """All parts of the page that can be there at a time."""
    draw(page, "a red apple", 1)
    edit(page, picture(path / "source.png"))
    page.click("summary:has-text('Negative prompt')")
    page.click("summary:has-text('Versions')")
    page.click("#compare-this")
    expect(page.locator("#compared")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_meets_wcag_aa(page: "Page", tmp_path: Path, scheme: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
    for _ in ("empty", "full"):
        found = axe.Axe().run(page, options=rules).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
        if page.locator("#details").is_hidden():
            everything_open(page, tmp_path)
            page.fill("#steps", "0")
            page.locator("#draw").click()


def test_the_theme_is_chosen_and_stays(page: "Page") -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    for name in ("light", "dark"):
        page.click("#theme")
        expect(page.locator("#theme")).to_have_accessible_name(f"{name.title()}: theme")
        assert (page.evaluate(ground) == light) == (name == "light")
    page.reload()
    assert page.evaluate(ground) != light
    page.click("#theme")
    assert page.evaluate(ground) == light, "the system's own again"


def test_a_phone_shows_it_all_without_scrolling_sideways(browser: "Browser", studio: Studio, tmp_path: Path) -> None:
    with listening(studio.server) as url, visiting(browser, url, viewport=PHONE, has_touch=True) as visit:
        page = visit.open()
        assert fits(page)
        everything_open(page, tmp_path)
        assert fits(page)
        tops = [page.locator(part).bounding_box() for part in ("#prompt", "#viewer", "#settings-title")]
        assert [box["y"] for box in tops if box] == sorted(box["y"] for box in tops if box)


def test_everything_is_reached_and_seen_by_keyboard(page: "Page", tmp_path: Path) -> None:
    everything_open(page, tmp_path)
    page.locator("body").evaluate("() => document.activeElement.blur()")
    missing = set(
        page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, a, summary, canvas[tabindex]")]
              .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility())
              .map((one) => one.id || one.textContent)"""
        )
    )
    assert len(missing) > 30
    for _ in range(100):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.id || document.activeElement.textContent")
        assert not page.evaluate(_UNSEEN), name
        missing.discard(name)
    assert missing == set()


def test_a_whole_visit_by_keyboard(page: "Page", studio: Studio) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.type("a red apple")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#said")).to_have_text("The picture is done.")
    expect(page.locator("#prompt")).to_be_focused()
    page.locator("#gallery button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#stage")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#download")).to_be_focused()
    assert studio.order.request.prompt == "a red apple"


def test_a_key_is_asked_for_where_the_server_asks(browser: "Browser", studio: Studio) -> None:
    records = [KeyRecord("ann", digest_of(KEY.encode()), frozenset(["images"]), KeyLimits())]
    studio.use(Keyring(records))
    with listening(studio.server) as url, visiting(browser, url) as visit:
        page = visit.page
        visit.expected.append("401")
        page.goto(f"{url}/")
        expect(page.locator("#key")).to_be_focused()
        expect(page.locator("#draw")).to_be_disabled()
        page.fill("#key", "another")
        page.keyboard.press("Enter")
        expect(page.locator("#access-said")).to_contain_text("none of the server's")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#draw")).to_be_enabled()
        expect(page.locator("#access")).to_be_hidden()
        draw(page, "a red apple", 1)
        assert studio.order.terms.tenant == "ann"
        kept = page.evaluate("[JSON.stringify(localStorage), document.cookie, location.href].join()")
        assert KEY not in kept
        page.reload()
        expect(page.locator("#draw")).to_be_enabled()


def test_no_key_is_asked_for_where_none_is_needed(page: "Page") -> None:
    expect(page.locator("#access")).to_be_hidden()
