"""What somebody sees in the page."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

_COLOUR = """([selector, x, y]) => {
  const shown = document.querySelector(selector);
  const canvas = new OffscreenCanvas(shown.naturalWidth ?? shown.width, shown.naturalHeight ?? shown.height);
  const context = canvas.getContext("2d");
  context.drawImage(shown, 0, 0);
  return [...context.getImageData(x, y, 1, 1).data.slice(0, 3)];
}"""


def expect(actual: Any) -> Any:
    """Playwright's, which waits for what it expects."""
    return pytest.importorskip("playwright.sync_api").expect(actual)


def colour_at(page: "Page", selector: str, x: int, y: int) -> tuple[int, ...]:
    """The colour of one pixel of a picture or a canvas, in its own size."""
    return tuple(page.evaluate(_COLOUR, [selector, x, y]))


def shown(page: "Page", name: str) -> str:
    """What stands beside a picture under that name."""
    return page.locator(f"#facts div:has(dt:text-is('{name}')) dd").inner_text()


def fits(page: "Page") -> bool:
    """Whether nothing must be scrolled sideways to be seen."""
    wide: bool = page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    return wide
