"""Server-sent events: a quiet line is kept, and what makes the events ends with the client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import ExitStack
from typing import Generic, TypeVar

from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from services.errors import UnavailableError
from services.ingress.http.errors import answer

News = TypeVar("News")

# proxies give up a line on which nothing came for half a minute or a minute
HEARTBEAT_S = 5.0
HEARTBEAT = format_sse_event(comment="still drawing")


class Paced(Generic[News]):
    """Follows news; gives what comes, and None whenever nothing has come for a time."""

    def __init__(self, news: AsyncIterator[News], every_s: float) -> None:
        """Follow at once; None comes after every `every_s` seconds of silence."""
        self._every_s = every_s
        # whoever reads may be as slow as its line, and the news go on
        self._arrived: asyncio.Queue[News | asyncio.Task[None]] = asyncio.Queue()
        self._following = asyncio.create_task(self._follow(news))
        self._following.add_done_callback(self._end)

    def __aiter__(self) -> "Paced[News]":
        return self

    async def __anext__(self) -> News | None:
        try:
            async with asyncio.timeout(self._every_s):
                one = await self._arrived.get()
        except TimeoutError:
            return None
        if not isinstance(one, asyncio.Task):
            return one
        if one.cancelled():
            # not by whoever reads, who would not be here any more; a cancellation let through would be taken for that
            raise UnavailableError("the drawing was broken off; try again")
        # raises what ended it, if anything did
        one.result()
        raise StopAsyncIteration

    def close(self) -> None:
        """Follow no more; whatever makes the news is cancelled."""
        self._following.cancel()

    async def _follow(self, news: AsyncIterator[News]) -> None:
        async for one in news:
            self._arrived.put_nowait(one)

    def _end(self, following: asyncio.Task[None]) -> None:
        if not following.cancelled():
            # looked at here, as nobody else may be there to do so
            following.exception()
        self._arrived.put_nowait(following)


class EventStream(EventSourceResponse):
    """An answer of events; `held` is let go of once they were sent, or the client has gone away."""

    def __init__(self, events: AsyncGenerator[bytes], headers: Mapping[str, str], held: ExitStack) -> None:
        # nginx would collect the events of a whole answer
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no", **headers})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        with self._held:
            await super().__call__(scope, receive, send)


def event(type_: str, data: BaseModel) -> bytes:
    """One event of that type, in which `data` names the type too."""
    return format_sse_event(event=type_, data_str=data.model_dump_json())


def error_event(error: Exception) -> bytes:
    """The event of an error that came when the status was out already; OpenAI's clients raise it."""
    return format_sse_event(event="error", data_str=bytes(answer(error, 1).body).decode())
