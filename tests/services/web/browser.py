"""A browser on the page: whatever it complains of is a failure, unless a test expects it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PATH = shutil.which("chromium")
# nothing is asked of anybody but the server under test
_ARGUMENTS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
_PATIENCE_MS = 120_000

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Debian's browser; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    if _PATH is None:
        pytest.skip("needs Chromium")
    api.expect.set_options(timeout=_PATIENCE_MS)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_PATH, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """One open page; `complaints` are its errors, warnings and requests to anybody else, `expected` parts of some."""

    page: "Page"
    url: str
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self._note(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("request", lambda sent: self._note_stranger(sent.url))

    def _note(self, said: str) -> None:
        self.complaints.append(said)

    def _note_stranger(self, url: str) -> None:
        # the page's own pictures name the server without the path that it is served below
        origin = "/".join(self.url.split("/")[:3])
        if not url.startswith((f"{self.url}/", f"blob:{origin}/")):
            self._note(f"a request to {url}")

    @property
    def unexpected(self) -> list[str]:
        return [said for said in self.complaints if not any(part in said for part in self.expected)]

    def open(self) -> "Page":
        """Go to the page, and wait until it can draw."""
        from playwright.sync_api import expect

        self.page.goto(f"{self.url}/")
        expect(self.page.locator("#draw")).to_be_enabled()
        return self.page


@contextmanager
def visiting(browser: "Browser", url: str, **options: Any) -> Iterator[Visit]:
    """A visit in a profile of its own; fails where the page complains of something that is not expected."""
    context = browser.new_context(viewport=options.pop("viewport", WIDE), reduced_motion="reduce", **options)
    context.set_default_timeout(_PATIENCE_MS)
    try:
        visit = Visit(context.new_page(), url)
        yield visit
        assert visit.unexpected == []
    finally:
        context.close()
