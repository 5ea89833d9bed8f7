"""One translation of everything that can go wrong; what an error looks like is OpenAI's way, or that of a face."""

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from services.errors import (
    AuthenticationError,
    CallerError,
    GivenUpError,
    OverloadedError,
    ServingError,
    StartError,
)
from services.failures import cause_of, known

_log = logging.getLogger("ray.serve")

# what JSON says of an error
Shape: TypeAlias = Callable[[ServingError], Mapping[str, Any]]
# by what the paths begin with
Shapes: TypeAlias = Mapping[str, Shape]
OPENAI_ALONE: Shapes = MappingProxyType({})


@runtime_checkable
class Shaped(Protocol):
    """A face whose clients look for errors of another shape than OpenAI's."""

    @property
    def prefix(self) -> str:
        """What the paths begin with, those that are no route of its too."""

    def error_of(self, error: ServingError) -> Mapping[str, Any]:
        """What JSON says of an error."""


class SignatureError(CallerError):
    """A webhook is not signed with our secret."""

    status = HTTPStatus.UNAUTHORIZED
    code = "invalid_signature"


def openai_shape(error: ServingError) -> Mapping[str, Any]:
    """OpenAI's shape."""
    param = None if error.param is None else _encodable(error.param)
    return {"error": {"message": error.message, "type": error.type, "param": param, "code": error.code}}


def shapes_of(faces: Iterable[object]) -> Shapes:
    """The shapes of those faces that have one of their own."""
    return {face.prefix: face.error_of for face in faces if isinstance(face, Shaped)}


def shape_at(scope: Scope, shapes: Shapes) -> Shape:
    """The shape of errors where a request goes; the application may lie under a root path."""
    path, root = scope["path"], scope.get("root_path", "")
    if path.startswith(f"{root}/"):
        path = path.removeprefix(root)
    return next((shape for prefix, shape in shapes.items() if path.startswith(f"{prefix}/")), openai_shape)


def answer(error: Exception, retry_after_s: int, shape: Shape = openai_shape) -> JSONResponse:
    """The answer to a request that raised `error`; of an error that is not ours only the type goes to the log."""
    ours, cause = known(error), cause_of(error)
    if type(ours) in (ServingError, GivenUpError) or isinstance(cause, StartError):
        # never another's message: it may quote what the caller wrote
        _log.error("request failed: %s", cause if isinstance(cause, ServingError) else type(cause).__name__)
    response = JSONResponse(shape(ours), status_code=ours.status)
    if ours.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        told = ours.retry_after_s if isinstance(ours, OverloadedError) else None
        wait_s = retry_after_s if told is None else told
        response.headers.update({"retry-after": str(wait_s), "retry-after-ms": str(1000 * wait_s)})
    if ours.should_retry is not None:
        response.headers["x-should-retry"] = str(ours.should_retry).lower()
    if isinstance(ours, AuthenticationError):
        for challenge in ours.challenges:
            response.headers.append("www-authenticate", challenge)
    if isinstance(error, HTTPException) and error.headers is not None:
        response.headers.update(error.headers)
    return response


def _encodable(text: str) -> str:
    # a lone surrogate, which JSON can spell and UTF-8 cannot, becomes a question mark
    return text.encode("utf-8", "replace").decode("utf-8")
