"""What a request that failed is told: one translation of everything that can go wrong into an error of ours."""

from http import HTTPStatus

from pydantic import BaseModel, Field
from ray.exceptions import ObjectStoreFullError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.exceptions import HTTPException

from pipeline.errors import RequestError
from services.errors import CallerError, FieldError, OverloadedError, ServingError, StartError, UnavailableError
from services.retries import LOST

_LOST = (*LOST, ObjectStoreFullError)
_ABSENT = (DeploymentUnavailableError, TaskCancelledError)


class ErrorDetail(BaseModel):
    """What went wrong; `param` is the field at fault."""

    message: str = Field(description="what went wrong, in words")
    type: str = Field(description="its kind, as OpenAI names kinds")
    param: str | None = Field(description="the field at fault, if it is one")
    code: str | None = Field(description="tells errors of one type apart")


class RouteError(CallerError):
    """No such route, or another method."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = HTTPStatus(status)
        self.code = "method_not_allowed" if status == HTTPStatus.METHOD_NOT_ALLOWED else "not_found"


def known(error: Exception) -> ServingError:
    """The error of ours that says what happened, without a word that is only for operators."""
    cause = cause_of(error)
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


def cause_of(error: Exception) -> Exception:
    """What was raised in the replica, where Ray wraps it."""
    return error.cause if isinstance(error, RayTaskError) else error
