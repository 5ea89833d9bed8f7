"""Streams that are left, and lines that are quiet or break."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from services.client.awaited import AsyncClient
from services.client.blocking import Client
from services.client.errors import Unreachable, UnreadableAnswer
from services.client.events import EventReader, Step
from services.messages import Drawn, Order, Progress
from tests.services.client.conftest import Caller
from tests.services.ingress.conftest import Server, draw_at_once


@pytest.fixture
def left(server: Server) -> threading.Event:
    """Set once a drawing that never ends by itself has ended."""
    ended = threading.Event()

    async def watch(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        try:
            yield Progress(0, 1, 25, None)
            await asyncio.Event().wait()
        finally:
            ended.set()

    server.watch = watch
    return ended


def test_a_stream_that_is_closed_ends_the_drawing(url: str, left: threading.Event) -> None:
    with Client(url) as client, closing(client.stream("a")) as told:
        assert isinstance(next(told), Step)
        assert not left.is_set()
    assert left.wait(30)


def test_an_awaited_stream_that_is_cancelled_ends_the_drawing(url: str, left: threading.Event) -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def follow() -> None:
            async for _ in client.stream("a"):
                begun.set()

        async with AsyncClient(url) as client:
            following = asyncio.create_task(follow())
            await begun.wait()
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await following

    asyncio.run(scenario())
    assert left.wait(30)


def test_a_call_that_is_cancelled_leaves_the_client_usable(server: Server, url: str) -> None:
    async def scenario() -> None:
        begun, go_on = threading.Event(), threading.Event()

        async def draw(order: Order) -> Drawn:
            begun.set()
            await asyncio.to_thread(go_on.wait)
            return await draw_at_once(order)

        server.draw = draw
        async with AsyncClient(url) as client:
            asked = asyncio.create_task(client.generate("a"))
            await asyncio.to_thread(begun.wait)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            go_on.set()
            server.draw = None
            assert await client.generate("a")

    asyncio.run(scenario())


def test_comments_on_a_quiet_line_are_no_events(server: Server, url: str, caller: Caller) -> None:
    async def watch(order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        await asyncio.sleep(0.3)
        yield await draw_at_once(order)

    server.watch = watch
    assert len(caller.stream(url, "stream", "a")) == 1


def test_a_stream_that_ends_too_soon_is_told() -> None:
    reader = EventReader({}, 2, "an id")
    assert reader.read("image_generation.of_the_future", "{}") is None
    with pytest.raises(Unreachable, match="ended after 0 of 2 pictures"):
        reader.end()
    with pytest.raises(UnreadableAnswer):
        reader.read("image_generation.completed", '{"b64_json": "AAAA"}')
