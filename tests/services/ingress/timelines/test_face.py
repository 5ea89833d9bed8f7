"""The timelines face: a request's own, as it was, and nobody else's."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from components.contract import Kind
from services.errors import OverloadedError
from services.ingress.app import create_app
from services.ingress.timelines.face import TimelinesFace
from services.messages import Drawn, Order, Progress
from services.timelines.memory import Timeline
from services.timelines.spans import Span
from tests.services.ingress.access.test_tenants import ANN, BEN, with_keys
from tests.services.ingress.conftest import RETRY_AFTER_S, Server, draw_at_once, error_of, watch_at_once
from tests.services.ingress.http.test_streaming import streamed

PATH = "/v1/requests/{}/timeline"


def with_timelines(server: Server) -> Server:
    """The server with the face, which finds what the faces beside it have kept."""

    async def find(request_id: str, owner: str) -> Timeline | None:
        return server.timelines.find(request_id, owner)

    server.faces.append(TimelinesFace(find))
    server.app = create_app(server.faces, server.metrics, RETRY_AFTER_S)
    return server


@pytest.fixture
def server(server: Server) -> Server:
    return with_timelines(server)


def graph_of(order: Order, start: float) -> Span:
    pin = order.pins[Kind.DENOISER]
    run = Span("run", start + 0.5, 0.25, facts={"rows": 2, "runs": 1})
    walk = Span("walk", start + 0.25, 0.5, Kind.DENOISER, pin, "denoiser-7", parts=(run,))
    return Span(
        "graph", start, 1.0, replica="graph-3", parts=(Span("picture", start, 1.0, facts={"image": 0}, parts=(walk,)),)
    )


def timeline(server: Server, **query: Any) -> dict[str, Any]:
    response = server.request("GET", PATH.format(server.request_id), params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_it_tells_what_was_done_where_and_when(server: Server) -> None:
    async def draw(order: Order) -> Drawn:
        return replace(await draw_at_once(order), span=graph_of(order, 1000.0))

    server.draw = draw
    assert server.generate(prompt="a red apple", steps=3, size="64x64").status_code == 200
    found = timeline(server)
    assert found["request_id"] == server.request_id
    spans = found["spans"]
    assert [one["id"] for one in spans] == list(range(len(spans)))
    by_name = {one["name"]: one for one in spans}
    parents = {one["name"]: None if one["parent"] is None else spans[one["parent"]]["name"] for one in spans}
    assert parents == {
        "request": None,
        "admission": "request",
        "drawing": "request",
        "graph": "drawing",
        "picture": "graph",
        "walk": "picture",
        "run": "walk",
        "answer": "request",
    }
    assert by_name["request"]["facts"] == {"status": 200, "images": 1, "width": 64, "height": 64, "steps": 3}
    assert by_name["run"]["facts"] == {"rows": 2, "runs": 1}
    assert by_name["run"]["start_s"] - by_name["walk"]["start_s"] == pytest.approx(0.25)
    assert [by_name[name]["replica"] for name in ("admission", "picture", "run")] == ["here", "graph-3", "denoiser-7"]
    assert by_name["walk"]["component"]["name"] == "toy.denoiser"
    assert by_name["walk"]["stage"] == "denoiser"
    assert set(found["phases"]) == {"admission", "run", "answer"}
    laps = [by_name[name]["seconds"] for name in ("admission", "drawing", "answer")]
    assert sum(laps) == pytest.approx(found["total_s"], abs=0.05)
    assert "apple" not in str(found)


def test_a_streamed_request_has_one_too(server: Server) -> None:
    async def watch(order: Order, every: int) -> AsyncIterator[Progress | Drawn]:
        async for news in watch_at_once(order, every):
            yield replace(news, span=graph_of(order, 1000.0)) if isinstance(news, Drawn) else news

    server.watch = watch
    streamed(server, steps=2, progress=True)
    names = [one["name"] for one in timeline(server)["spans"]]
    assert names == ["request", "admission", "drawing", "graph", "picture", "walk", "run", "answer"]


def test_what_failed_tells_how(server: Server) -> None:
    async def draw(_order: Order) -> Drawn:
        raise OverloadedError("full", 3)

    server.draw = draw
    assert server.generate(prompt="a").status_code == 429
    request, *parts = timeline(server)["spans"]
    assert (request["facts"]["status"], request["facts"]["error"]) == (429, "overloaded")
    assert [part["name"] for part in parts] == ["admission", "drawing"]


def test_a_users_timeline_is_that_users(server: Server) -> None:
    assert server.generate(prompt="a", user="ann").status_code == 200
    assert timeline(server, user="ann")["request_id"] == server.request_id
    for query in ({}, {"user": "ben"}):
        error = error_of(server.request("GET", PATH.format(server.request_id), params=query), 404)
        assert error["code"] == "timeline_not_found"
    error_of(server.request("GET", PATH.format("another"), params={"user": "ann"}), 404)
    assert error_of(server.request("GET", PATH.format("a"), params={"who": "ann"}), 422)["param"] == "who"


def test_a_keys_timeline_is_that_keys(server: Server) -> None:
    with_keys(server)

    def asked(method: str, path: str, key: str, **more: Any) -> Any:
        return server.request(method, path, headers={"authorization": f"Bearer {key}"}, **more)

    assert asked("POST", "/v1/images/generations", ANN, json={"prompt": "a"}).status_code == 200
    path = PATH.format(server.request_id)
    assert asked("GET", path, ANN).status_code == 200
    assert asked("GET", path, BEN).status_code == 404
    assert server.request("GET", path).status_code == 401
