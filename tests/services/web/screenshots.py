"""`python -m tests.services.web.screenshots URL FOLDER`: pictures of a running server's page for the documents."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from PIL import Image

from tests.services.web.browser import PHONE, chromium, visiting
from tests.services.web.seen import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PROMPTS = (("a red apple, 3d style", 1), ("hamster, flat style", 7), ("tropical drink, 3d style", 40))
_WIDE = {"width": 1280, "height": 1220}
_COLOURS = 256


def main(
    url: Annotated[str, typer.Argument(help="where the server answers")],
    folder: Annotated[Path, typer.Argument(help="where page-wide.png and page-phone.png go")],
) -> None:
    """Draw a few pictures in the page, wide and on a phone, and show it in light and dark side by side."""
    with chromium() as browser:
        for name, viewport in (("wide", _WIDE), ("phone", PHONE)):
            shots = _shots(browser, url.rstrip("/"), viewport)
            _side_by_side(shots).save(folder / f"page-{name}.png", optimize=True)


def _shots(browser: "Browser", url: str, viewport: dict[str, int]) -> list[Image.Image]:
    phone = viewport == PHONE
    with visiting(browser, url, viewport=viewport, device_scale_factor=1.5, has_touch=phone, is_mobile=phone) as visit:
        page = visit.open()
        for index, (prompt, seed) in enumerate(_PROMPTS, 1):
            page.fill("#prompt", prompt)
            page.fill("#seed", str(seed))
            page.click("#draw")
            expect(page.locator("#gallery li")).to_have_count(index)
        return [_shot(page, scheme) for scheme in ("light", "dark")]


def _shot(page: "Page", scheme: Any) -> Image.Image:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    return Image.open(io.BytesIO(page.screenshot()))


def _side_by_side(shots: list[Image.Image]) -> Image.Image:
    width, height = shots[0].size
    whole = Image.new("RGB", (len(shots) * width, height))
    for index, shot in enumerate(shots):
        whole.paste(shot, (index * width, 0))
    return whole.quantize(_COLOURS)


if __name__ == "__main__":
    typer.run(main)
