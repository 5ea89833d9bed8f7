"""Bodies that come a little at a time and never to their end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.ingress.http import body
from tests.services.ingress.conftest import GENERATIONS, error_of

Server = Any
# enough that neither a JSON body nor a form is refused for what has come
BEGUN = {
    "application/json": b"{",
    "multipart/form-data; boundary=x": b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n',
}


@pytest.mark.parametrize(("path", "type_"), list(zip([GENERATIONS, "/v1/images/edits"], BEGUN, strict=True)))
def test_they_keep_no_place(server: Server, path: str, type_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        yield BEGUN[type_]
        while True:
            await asyncio.sleep(0.01)
            yield b" "

    monkeypatch.setattr(body, "MOST_S", 0.1)
    error = error_of(server.request("POST", path, content=dripping(), headers={"content-type": type_}), 408)
    assert (error["code"], error["type"]) == ("request_timeout", "invalid_request_error")
    assert error["message"] == "the body must come within 0.1 seconds"
    assert server.uploads.count == server.admission.images == 0


def test_what_comes_in_time_is_read(server: Server) -> None:
    async def in_parts() -> AsyncIterator[bytes]:
        for part in (b'{"prompt": ', b'"a boat"', b"}"):
            await asyncio.sleep(0.01)
            yield part

    response = server.request("POST", GENERATIONS, content=in_parts(), headers={"content-type": "application/json"})
    assert response.status_code == 200, response.text
    assert server.orders[-1].request.prompt == "a boat"
