"""The task's picture over HTTP, one request after another or several at once."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.task import asked_fields
from components.messages import ImageRequest

_PATH = "/v1/images/generations"
_TIMEOUT_S = 600.0
# the server answers in JSON what it cannot draw; only its beginning is for a message
_LONGEST_ANSWER = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """A picture over HTTP: its file, and the milliseconds from the request's first byte to the answer's last."""

    request: str
    whole_ms: float
    picture: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """Pictures asked for `at_once` clients at a time: seconds for all of them, and each one's milliseconds."""

    at_once: int
    seconds: float
    pictures_per_second: float
    whole_ms: tuple[float, ...]


class Client:
    """A client with one connection that is kept for every request, or one for each of several at once."""

    def __init__(self, url: str, request: ImageRequest) -> None:
        """Ask the server at `url` for the picture of `request`."""
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False)
        self._body = request_body(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def draw(self) -> Answer:
        """Ask for one picture and wait for it.

        Raises:
            BenchmarkError: there was no picture.
        """
        request = f"bench-{uuid.uuid4()}"
        headers = {"accept": "image/png", "x-request-id": request}
        started = time.perf_counter()
        try:
            response = self._http.post(_PATH, json=self._body, headers=headers)
        except httpx.TransportError as error:
            raise BenchmarkError(f"the server gave no answer: {type(error).__name__}") from None
        whole_ms = (time.perf_counter() - started) * 1000
        if response.status_code != httpx.codes.OK:
            raise BenchmarkError(f"the server answered {response.status_code}: {response.text[:_LONGEST_ANSWER]}")
        return Answer(request, whole_ms, response.content)

    def load(self, at_once: int, pictures: int) -> Load:
        """Ask for `pictures` pictures, `at_once` at a time.

        Raises:
            BenchmarkError: there was no picture.
        """
        started = time.perf_counter()
        with ThreadPoolExecutor(at_once) as clients:
            answers = list(clients.map(lambda _: self.draw(), range(pictures)))
        seconds = time.perf_counter() - started
        return Load(at_once, seconds, pictures / seconds, tuple(answer.whole_ms for answer in answers))


def request_body(request: ImageRequest) -> dict[str, Any]:
    """The body that asks for every field of a request."""
    sides = ("width", "height")
    fields = {name: value for name, value in asked_fields(request).items() if name not in sides}
    return {**fields, "size": f"{request.width}x{request.height}"}
