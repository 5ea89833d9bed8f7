"""The page's files: types, caches, the policy that lets nothing else in, and nothing of the system."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

import services
from services.ingress.app import create_app
from services.ingress.operations.page import PageFace
from services.keys.keyring import Keyring
from services.metrics.ingress import IngressMetrics
from tests.services.ingress.conftest import RETRY_AFTER_S, Server, error_of

ROOM = Path(services.__file__).parent / "web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_IMPORT = re.compile(r'from "\./([^"]+)"')
_LINK = re.compile(r'(?:src|href)="web/([^"]+)"')


@pytest.fixture
def app() -> FastAPI:
    return create_app([PageFace()], IngressMetrics(), RETRY_AFTER_S)


def ask(app: FastAPI, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return asyncio.run(asked())


def test_every_file_of_the_room_is_served_as_what_it_is(app: FastAPI) -> None:
    names = sorted(path.name for path in ROOM.iterdir())
    assert {Path(name).suffix for name in names} == set(TYPES)
    for name in names:
        answer = ask(app, "/" if name == "index.html" else f"/web/{name}")
        assert (answer.status_code, answer.content) == (200, (ROOM / name).read_bytes())
        assert answer.headers["content-type"] == TYPES[Path(name).suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_the_files_name_is_there(app: FastAPI) -> None:
    named = set(_LINK.findall((ROOM / "index.html").read_text()))
    for path in ROOM.glob("*.js"):
        named |= set(_IMPORT.findall(path.read_text()))
    assert len(named) > 15
    assert [name for name in named if ask(app, f"/web/{name}").status_code != 200] == []


def test_nothing_comes_from_elsewhere_and_nothing_is_inline(app: FastAPI) -> None:
    policy = dict(part.split(" ", 1) for part in ask(app, "/").headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {name: policy[name] for name in ("script-src", "style-src", "connect-src")} == dict.fromkeys(
        ("script-src", "style-src", "connect-src"), "'self'"
    )
    assert "unsafe" not in str(policy)
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    for path in ROOM.iterdir():
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text()))
        assert addresses <= {"http://www.w3.org"}, path.name


def test_a_cache_asks_and_is_told_that_nothing_has_changed(app: FastAPI) -> None:
    first = ask(app, "/web/main.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    assert tag != ask(app, "/web/api.js").headers["etag"]
    for known in (tag, f"W/{tag}", f'"another", {tag}', "*"):
        again = ask(app, "/web/main.js", if_none_match=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-security-policy" in again.headers
    assert ask(app, "/web/main.js", if_none_match='"another"').status_code == 200


@pytest.mark.parametrize("name", ["page.py", "nothing.js", "index.html", "..%2f__init__.py", "%2e%2e/__init__.py", ""])
def test_there_is_nothing_else(app: FastAPI, name: str) -> None:
    error_of(ask(app, f"/web/{name}"), 404)


def test_head_and_other_methods(app: FastAPI) -> None:
    assert ask(app, "/", "HEAD").status_code == 200
    error_of(ask(app, "/", "POST"), 405)


def test_it_is_open_where_keys_are_asked_for_and_no_part_of_the_api(server: Server) -> None:
    app = create_app([*server.faces, PageFace()], server.metrics, RETRY_AFTER_S, Keyring([]))
    assert [ask(app, path).status_code for path in ("/", "/web/main.js")] == [200, 200]
    error_of(ask(app, "/v1/models"), 401)
    paths = ask(app, "/openapi.json").json()["paths"]
    assert [path for path in paths if path == "/" or path.startswith("/web")] == []
