"""The client whose calls are awaited."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx
from httpx_sse import EventSource

from registry.commands.server_status import ServerStatus
from services.client import calls
from services.client.address import Address
from services.client.answers import Comparison, Drawing, Inspection, Model, Readiness, Timeline, Verification
from services.client.blocking import CONNECT_S, TIMEOUT_S
from services.client.calls import Call, Source, Telling
from services.client.errors import ClientError
from services.client.events import Event, EventReader
from services.client.options import DecodeOptions, EditOptions, Options
from services.client.replies import refusal, request_id_of, require_events, translated
from services.client.retries import Attempts, Retries

T = TypeVar("T")


class AsyncClient:
    """`Client` for one event loop; a call that is cancelled closes its line, and the server stops drawing."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """As `Client`.

        Raises:
            AddressError: as `Address.of`.
        """
        self._address = Address.of(url, key)
        self._retries = Retries() if retries is None else retries
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=self._address.url,
            headers=self._address.headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S)),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all lines."""
        await self._http.aclose()

    async def generate(self, prompt: str, **options: Unpack[Options]) -> Drawing:
        """As `Client.generate`."""
        return await self._ask(calls.generation(prompt, options))

    async def edit(
        self,
        image: Source,
        prompt: str,
        mask: Source | None = None,
        depth: Source | None = None,
        **options: Unpack[EditOptions],
    ) -> Drawing:
        """As `Client.edit`."""
        return await self._ask(calls.edit(image, prompt, mask, depth, options))

    async def vary(self, image: Source, **options: Unpack[EditOptions]) -> Drawing:
        """As `Client.vary`."""
        return await self._ask(calls.variation(image, options))

    def stream(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> AsyncGenerator[Event, None]:
        """As `Client.stream`."""
        return self._told(calls.generation(prompt, options, Telling(previews)))

    def stream_edit(
        self,
        image: Source,
        prompt: str,
        mask: Source | None = None,
        depth: Source | None = None,
        *,
        previews: int = 0,
        **options: Unpack[EditOptions],
    ) -> AsyncGenerator[Event, None]:
        """As `Client.stream_edit`."""
        return self._told(calls.edit(image, prompt, mask, depth, options, Telling(previews)))

    def stream_vary(
        self, image: Source, *, previews: int = 0, **options: Unpack[EditOptions]
    ) -> AsyncGenerator[Event, None]:
        """As `Client.stream_vary`."""
        return self._told(calls.variation(image, options, Telling(previews)))

    async def decode(self, latents_id: str, component: str | None = None, **options: Unpack[DecodeOptions]) -> Drawing:
        """As `Client.decode`."""
        return await self._ask(calls.decode(latents_id, component, options))

    async def compare(self, latents_id: str, first: str, second: str, *, user: str | None = None) -> Comparison:
        """As `Client.compare`."""
        return await self._ask(calls.compare(latents_id, first, second, user))

    async def inspect(self, picture: Source) -> Inspection:
        """As `Client.inspect`."""
        return await self._ask(calls.inspection(picture))

    async def verify(
        self,
        picture: Source,
        source: Source | None = None,
        mask: Source | None = None,
        depth: Source | None = None,
        controls: Sequence[Source] = (),
        image_prompts: Sequence[Source] = (),
    ) -> Verification:
        """As `Client.verify`."""
        return await self._ask(calls.verification(picture, source, mask, depth, controls, image_prompts))

    async def timeline(self, request_id: str, *, user: str | None = None) -> Timeline:
        """As `Client.timeline`."""
        return await self._ask(calls.timeline(request_id, user))

    async def models(self) -> tuple[Model, ...]:
        """As `Client.models`."""
        return await self._ask(calls.models())

    async def rollout(self) -> ServerStatus:
        """As `Client.rollout`."""
        return await self._ask(calls.rollout())

    async def ready(self) -> Readiness:
        """As `Client.ready`."""
        return await self._ask(calls.ready())

    async def _ask(self, call: Call[T]) -> T:
        return call.read(await self._answered(call, stream=False))

    async def _told(self, call: Call[Drawing]) -> AsyncGenerator[Event, None]:
        response = await self._answered(call, stream=True)
        request_id = request_id_of(response)
        with translated(str(self._address), request_id):
            try:
                require_events(response)
                reader = EventReader(response.headers, call.pictures, request_id)
                async with aclosing(EventSource(response).aiter_sse()) as told:
                    async for one in told:
                        event = reader.read(one.event, one.data)
                        if event is not None:
                            yield event
                reader.end()
            finally:
                await response.aclose()

    async def _answered(self, call: Call[T], *, stream: bool) -> httpx.Response:
        attempts = Attempts(self._retries, call.repeat)
        while True:
            request = self._http.build_request(call.method, call.path, **call.sent())
            try:
                with translated(str(self._address), request.headers["x-request-id"]):
                    response = await self._http.send(request, stream=stream)
                    if response.is_success:
                        return response
                    try:
                        await response.aread()
                    finally:
                        await response.aclose()
                raise refusal(response)
            except ClientError as error:
                wait_s = attempts.wait_s(error)
            await self._sleep(wait_s)
