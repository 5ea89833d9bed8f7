"""One translation of everything that can go wrong; what an error looks like is OpenAI's way, or that of a face."""

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from fastapi.responses import JSONResponse
from ray.exceptions import ObjectStoreFullError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from pipeline.errors import RequestError
from services.errors import (
    AuthenticationError,
    CallerError,
    FieldError,
    GivenUpError,
    OverloadedError,
    ServingError,
    StartError,
    UnavailableError,
)
from services.retries import LOST

_log = logging.getLogger("ray.serve")

_LOST = (*LOST, ObjectStoreFullError)
_ABSENT = (DeploymentUnavailableError, TaskCancelledError)

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


class RouteError(CallerError):
    """No such route, or another method."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = HTTPStatus(status)
        self.code = "method_not_allowed" if status == HTTPStatus.METHOD_NOT_ALLOWED else "not_found"


class SignatureError(CallerError):
    """A webhook is not signed with our secret."""

    status = HTTPStatus.UNAUTHORIZED
    code = "invalid_signature"


def known(error: Exception) -> ServingError:
    """The error of ours that says what happened, without a word that is only for operators."""
    cause = _cause(error)
    match cause:
        case StartError():
            return UnavailableError("a component of the model cannot be opened just now; try again later")
        case ServingError():
            return cause
        case RequestError():
            return FieldError(cause.message, cause.field)
        case HTTPException():
            return RouteError(str(cause.detail), cause.status_code)
        case BackPressureError():
            return OverloadedError("too many requests wait; try again later")
        case _ if isinstance(cause, _LOST):
            return UnavailableError("a replica stopped while it worked on this request; try again")
        case _ if isinstance(cause, _ABSENT):
            return UnavailableError("a part of the server is not there just now; try again later")
        case _:
            return ServingError("something went wrong on our side")


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
    ours, cause = known(error), _cause(error)
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


def _cause(error: Exception) -> Exception:
    return error.cause if isinstance(error, RayTaskError) else error


def _encodable(text: str) -> str:
    # a lone surrogate, which JSON can spell and UTF-8 cannot, becomes a question mark
    return text.encode("utf-8", "replace").decode("utf-8")
