"""Reading answers: the record that a call promises, or the error that says why there is none."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from registry.commands.server_status import ServerStatus
from services.client.answers import (
    Comparison,
    Drawing,
    Failed,
    Inspection,
    Model,
    Models,
    Readiness,
    Timeline,
    Verification,
)
from services.client.errors import ClientError, ServerRefused, TimedOut, Unreachable, UnreadableAnswer

Record = TypeVar("Record", bound=BaseModel)

_OBJECT = TypeAdapter(dict[str, Any])
_EVENTS = "text/event-stream"
# nothing can have reached a server whose line was never there
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


def drawing(response: httpx.Response) -> Drawing:
    """Pictures and what made them."""
    return _read(response, lambda found: Drawing.model_validate({**found, "request_id": request_id_of(response)}))


def comparison(response: httpx.Response) -> Comparison:
    """A sheet of two pictures, and the figures in its headers."""
    headers = response.headers
    try:
        psnr_db = float(headers["x-psnr-db"])
        return Comparison(
            sheet=response.content,
            psnr_db=None if math.isinf(psnr_db) else psnr_db,
            max_difference=int(headers["x-max-difference"]),
            difference_factor=int(headers["x-difference-factor"]),
            seed=int(headers["x-seed"]),
        )
    except (KeyError, ValueError):
        raise _unreadable(response) from None


def inspection(response: httpx.Response) -> Inspection:
    """What a picture's file says."""
    return _read(response, Inspection.model_validate)


def verification(response: httpx.Response) -> Verification:
    """Whether a picture is what its story makes."""
    return _read(response, Verification.model_validate)


def models(response: httpx.Response) -> tuple[Model, ...]:
    """The served bundles."""
    return _read(response, Models.model_validate).data


def rollout(response: httpx.Response) -> ServerStatus:
    """The state of the rollout."""
    return _read(response, ServerStatus.model_validate)


def readiness(response: httpx.Response) -> Readiness:
    """The state of a server that can draw."""
    return _read(response, Readiness.model_validate)


def timeline(response: httpx.Response) -> Timeline:
    """What became of a request when."""
    return _read(response, Timeline.model_validate)


def require_events(response: httpx.Response) -> None:
    """Raise UnreadableAnswer unless an answer is a stream of events."""
    if response.headers.get("content-type", "").partition(";")[0].strip() != _EVENTS:
        raise _unreadable(response)


def refusal(response: httpx.Response) -> ServerRefused:
    """The error of an answer that is no success; one in other words than ours, as a proxy's, is told by its status."""
    status, request_id = response.status_code, request_id_of(response)
    try:
        said = Failed.model_validate_json(response.content).error
        error = ServerRefused(said.message, status, said.param, said.code, request_id)
    except ValidationError:
        error = ServerRefused(f"the server answered with status {status}", status, request_id=request_id)
    error.retry_after_s = _retry_after_s(response.headers)
    told = response.headers.get("x-should-retry")
    error.should_retry = None if told is None else told == "true"
    return error


@contextmanager
def translated(where: str, request_id: str | None) -> Iterator[None]:
    """A block in which what httpx raises becomes an error of ours; `where` names the server."""
    try:
        yield
    except _UNSENT:
        raise Unreachable(f"nobody answers at {where}", request_id, sent=False) from None
    except httpx.TimeoutException:
        raise TimedOut(f"{where} said nothing for too long", request_id) from None
    except httpx.TransportError:
        raise Unreachable(f"the line to {where} broke", request_id, sent=True) from None
    except (httpx.HTTPError, httpx.StreamError):
        raise UnreadableAnswer(f"{where} answered what cannot be read", request_id) from None


def request_id_of(response: httpx.Response) -> str | None:
    """The id by which a server's operators find a request: the server's, or else the one that was sent."""
    found: str | None = response.headers.get("x-request-id", response.request.headers.get("x-request-id"))
    return found


def _read(response: httpx.Response, read: Callable[[dict[str, Any]], Record]) -> Record:
    try:
        return read(_OBJECT.validate_json(response.content))
    except ValidationError:
        raise _unreadable(response) from None


def _unreadable(response: httpx.Response) -> ClientError:
    return UnreadableAnswer("the answer is none of such a server", request_id_of(response))


def _retry_after_s(headers: httpx.Headers) -> float | None:
    for name, seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        # the date that HTTP also allows here is no word of ours
        if text.isascii() and text.isdecimal() and len(text) < 10:
            return int(text) * seconds
    return None
