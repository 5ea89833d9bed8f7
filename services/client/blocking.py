"""The client whose calls wait."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx
from httpx_sse import EventSource

from registry.commands.server_status import ServerStatus
from services.client import calls
from services.client.address import Address
from services.client.answers import Comparison, Drawing, Inspection, Model, Readiness, Timeline, Verification
from services.client.calls import Call, Source, Telling
from services.client.errors import ClientError
from services.client.events import Event, EventReader
from services.client.options import DecodeOptions, EditOptions, Options
from services.client.replies import refusal, request_id_of, require_events, translated
from services.client.retries import Attempts, Retries

T = TypeVar("T")

CONNECT_S = 10.0
TIMEOUT_S = 600.0


class Client:
    """Calls a server and waits; usable from any number of threads at once.

    Every call raises ClientError, and those that take a picture as a path OSError where it cannot be read.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Call the server at `url` with `key`; where they are not given the environment names them.

        `timeout_s` is how long a line may be quiet, and so, but for streams, how long a drawing may take.

        Raises:
            AddressError: as `Address.of`.
        """
        self._address = Address.of(url, key)
        self._retries = Retries() if retries is None else retries
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=self._address.url,
            headers=self._address.headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all lines."""
        self._http.close()

    def generate(self, prompt: str, **options: Unpack[Options]) -> Drawing:
        """Draw pictures from a prompt."""
        return self._ask(calls.generation(prompt, options))

    def edit(
        self,
        image: Source,
        prompt: str,
        mask: Source | None = None,
        depth: Source | None = None,
        **options: Unpack[EditOptions],
    ) -> Drawing:
        """Draw pictures from a prompt and a picture, of which a `mask` says what is drawn anew.

        `depth`, a picture that is the lighter the nearer things are, is for models that see it.
        """
        return self._ask(calls.edit(image, prompt, mask, depth, options))

    def vary(self, image: Source, **options: Unpack[EditOptions]) -> Drawing:
        """Draw pictures like one."""
        return self._ask(calls.variation(image, options))

    def stream(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """As `generate`, told step by step; closed before its end, the server stops drawing."""
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
    ) -> Generator[Event, None, None]:
        """As `edit`, told as by `stream`."""
        return self._told(calls.edit(image, prompt, mask, depth, options, Telling(previews)))

    def stream_vary(
        self, image: Source, *, previews: int = 0, **options: Unpack[EditOptions]
    ) -> Generator[Event, None, None]:
        """As `vary`, told as by `stream`."""
        return self._told(calls.variation(image, options, Telling(previews)))

    def decode(self, latents_id: str, component: str | None = None, **options: Unpack[DecodeOptions]) -> Drawing:
        """Show kept latents by the VAE decoder that is named, or the one that they were made for."""
        return self._ask(calls.decode(latents_id, component, options))

    def compare(self, latents_id: str, first: str, second: str, *, user: str | None = None) -> Comparison:
        """Show what two VAE decoders make of the same latents, and where they differ."""
        return self._ask(calls.compare(latents_id, first, second, user))

    def inspect(self, picture: Source) -> Inspection:
        """Read what a picture's file says of how it was made."""
        return self._ask(calls.inspection(picture))

    def verify(
        self,
        picture: Source,
        source: Source | None = None,
        mask: Source | None = None,
        depth: Source | None = None,
        controls: Sequence[Source] = (),
        image_prompts: Sequence[Source] = (),
    ) -> Verification:
        """Have a picture drawn again by the versions of its story, and tell whether the pixels are equal.

        An edit needs the picture that it was made from, and its mask and depth if it had them, and what was held by
        control pictures, or is like others, needs those.
        """
        return self._ask(calls.verification(picture, source, mask, depth, controls, image_prompts))

    def timeline(self, request_id: str, *, user: str | None = None) -> Timeline:
        """Tell what became of a request when, by the id that its answer had; servers keep that for a time."""
        return self._ask(calls.timeline(request_id, user))

    def models(self) -> tuple[Model, ...]:
        """List the served bundles."""
        return self._ask(calls.models())

    def rollout(self) -> ServerStatus:
        """Tell what is live; a server with keys wants one with the role `operate`."""
        return self._ask(calls.rollout())

    def ready(self) -> Readiness:
        """Tell how many replicas run; a server that cannot draw just now raises ServerRefused, status 503."""
        return self._ask(calls.ready())

    def _ask(self, call: Call[T]) -> T:
        return call.read(self._answered(call, stream=False))

    def _told(self, call: Call[Drawing]) -> Generator[Event, None, None]:
        response = self._answered(call, stream=True)
        request_id = request_id_of(response)
        with closing(response), translated(str(self._address), request_id):
            require_events(response)
            reader = EventReader(response.headers, call.pictures, request_id)
            for one in EventSource(response).iter_sse():
                event = reader.read(one.event, one.data)
                if event is not None:
                    yield event
            reader.end()

    def _answered(self, call: Call[T], *, stream: bool) -> httpx.Response:
        attempts = Attempts(self._retries, call.repeat)
        while True:
            request = self._http.build_request(call.method, call.path, **call.sent())
            try:
                with translated(str(self._address), request.headers["x-request-id"]):
                    response = self._http.send(request, stream=stream)
                    if response.is_success:
                        return response
                    with closing(response):
                        response.read()
                raise refusal(response)
            except ClientError as error:
                wait_s = attempts.wait_s(error)
            self._sleep(wait_s)
