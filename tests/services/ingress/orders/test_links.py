"""Pictures by link: where a link leads, what is refused, and that it is the caller's alone to have."""

import base64
import io
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from starlette.requests import Request

from services.errors import FileNotKeptError
from services.files.pictures import Link
from services.ingress.http.addresses import PublicAddress
from services.messages import PictureFormat
from tests.services.ingress.conftest import error_of

Server = Any


def links_of(server: Server, **body: Any) -> list[str]:
    response = server.generate(prompt="a", response_format="url", **body)
    assert response.status_code == 200, response.text
    assert [one["b64_json"] for one in response.json()["data"]] == [None] * body.get("n", 1)
    return [one["url"] for one in response.json()["data"]]


def show(server: Server, link: str) -> Any:
    return server.request("GET", link)


@pytest.mark.parametrize(("output_format", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_a_link_shows_the_file_that_b64_json_would_hold(server: Server, output_format: str, kind: str) -> None:
    body = {"output_format": output_format, "seed": 7, "n": 2}
    links = links_of(server, **body)
    whole = server.generate(prompt="a", **body).json()["data"]
    for link, one in zip(links, whole, strict=True):
        shown = show(server, link)
        assert (shown.status_code, shown.headers["content-type"]) == (200, f"image/{output_format}")
        assert shown.content == base64.b64decode(one["b64_json"])
        assert Image.open(io.BytesIO(shown.content)).format == kind
        assert one["url"] is None
        assert urlsplit(link).path.endswith(f".{output_format}")
        assert shown.headers["cache-control"].startswith("private, max-age=3")


def test_a_link_is_over_after_its_hour(server: Server) -> None:
    [link] = links_of(server)
    server.now += 3599
    assert show(server, link).status_code == 200
    server.now += 2
    assert error_of(show(server, link), 410)["code"] == "link_expired"


@pytest.mark.parametrize(
    "forge",
    [
        lambda link: link.replace("signature=", "signature=A"),
        lambda link: link[:-1],
        lambda link: link.split("&signature")[0],
        lambda link: link.split("?")[0],
        lambda link: link.replace("expires=", "expires=9"),
        lambda link: link.replace("expires=", "expires=-"),
        lambda link: link.replace("expires=", "expires=%D9%A1"),
        lambda link: link.replace("expires=", "expires=" + "1" * 5000),
        lambda link: link.replace(".png", ".webp"),
        lambda link: link.replace(".png", ""),
        lambda link: link.replace("/files/", "/files/x"),
        lambda link: link.replace("/files/", "/files/%2e%2e%2f"),
    ],
)
def test_any_other_link_is_forbidden(server: Server, forge: Any) -> None:
    [link] = links_of(server)
    response = show(server, forge(link))
    if response.status_code != 404:
        error = error_of(response, 403)
        assert (error["code"], error["param"]) == ("invalid_signature", "signature")
    assert show(server, link).status_code == 200


def test_a_picture_itself_has_no_link(server: Server) -> None:
    refused = server.generate("image/png", prompt="a", response_format="url")
    assert error_of(refused, 422)["param"] == "response_format"


@pytest.mark.parametrize(
    "raised", [FileNotKeptError("links: the disk does not take a file: No space left on device"), KeyError("a secret")]
)
def test_a_picture_that_cannot_be_kept_is_an_error_that_is_not_tried_again(
    server: Server, raised: Exception, serve_log: pytest.LogCaptureFixture
) -> None:
    def refuse(_data: bytes, _format: PictureFormat) -> Link:
        raise raised

    server.keep = refuse
    response = server.generate(prompt="a", response_format="url")
    error = error_of(response, 507)
    assert (error["type"], error["code"], error["param"]) == ("server_error", "picture_not_kept", "response_format")
    assert response.headers["x-should-retry"] == "false"
    assert "secret" not in response.text + serve_log.text
    assert len(serve_log.messages) == 1
    assert server.admission.images == 0


def asked_by(**headers: str) -> Request:
    given = {"host": "inside:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "scheme": "http", "path": "/", "query_string": b"", "server": ("10.0.0.1", 8000)}
    return Request({**scope, "headers": raw})


FORWARDED = {"x_forwarded_proto": "https", "x_forwarded_host": "pictures.example"}


@pytest.mark.parametrize(
    ("settings", "headers", "address"),
    [
        ({}, {}, "http://inside:8000"),
        ({}, FORWARDED, "http://inside:8000"),
        ({"trust_forwarded": True}, {}, "http://inside:8000"),
        ({"trust_forwarded": True}, FORWARDED, "https://pictures.example"),
        (
            {"trust_forwarded": True},
            {"x_forwarded_proto": "https, http", "x_forwarded_host": "pictures.example:8443, inside"},
            "https://pictures.example:8443",
        ),
        (
            {"trust_forwarded": True},
            {"x_forwarded_proto": "javascript", "x_forwarded_host": "evil.example/path?"},
            "http://inside:8000",
        ),
        ({"trust_forwarded": True}, {"x_forwarded_host": "[::1]:80"}, "http://[::1]:80"),
        ({"url": "https://cdn.example/pictures/"}, FORWARDED, "https://cdn.example/pictures"),
    ],
)
def test_where_a_link_leads(settings: dict[str, Any], headers: dict[str, str], address: str) -> None:
    assert PublicAddress(**settings).of(asked_by(**headers)) == address
