"""One translation of everything that can go wrong into OpenAI's error shape."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from ray.exceptions import RayActorError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.exceptions import HTTPException

from pipeline.errors import RequestError
from services.errors import CallerError, FieldError, OverloadedError, ServingError, UnavailableError

_log = logging.getLogger("ray.serve")


class RouteError(CallerError):
    """No such route, or another method."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = HTTPStatus(status)
        self.code = "method_not_allowed" if status == HTTPStatus.METHOD_NOT_ALLOWED else "not_found"


def known(error: Exception) -> ServingError:
    """The error of ours that says what happened."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    match cause:
        case ServingError():
            return cause
        case RequestError():
            return FieldError(cause.message, cause.field)
        case HTTPException():
            return RouteError(str(cause.detail), cause.status_code)
        case BackPressureError():
            return OverloadedError("too many requests wait; try again later")
        case RayActorError():
            return UnavailableError("a replica stopped while it worked on this request; try again")
        case DeploymentUnavailableError() | TaskCancelledError():
            return UnavailableError("a part of the server is not there just now; try again later")
        case _:
            return ServingError("something went wrong on our side")


def answer(error: Exception, retry_after_s: int) -> JSONResponse:
    """The answer to a request that raised `error`; of an error that is not ours only the type goes to the log."""
    ours = known(error)
    if type(ours) is ServingError:
        _log.error("request failed: %s", _kind(error))
    body: dict[str, Any] = {"message": ours.message, "type": ours.type, "param": ours.param, "code": ours.code}
    response = JSONResponse({"error": body}, status_code=ours.status)
    if ours.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        response.headers["retry-after"] = str(retry_after_s)
    if isinstance(error, HTTPException) and error.headers is not None:
        response.headers.update(error.headers)
    return response


def _kind(error: Exception) -> str:
    # never the message: it may quote what the caller wrote
    cause = error.cause if isinstance(error, RayTaskError) else error
    return str(cause) if isinstance(cause, ServingError) else type(cause).__name__
