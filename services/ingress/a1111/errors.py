"""A1111's shape of errors, and those that its clients know by their words."""

from collections.abc import Mapping
from http import HTTPStatus

from services.errors import AuthenticationError, CallerError, ServingError


class SamplerNotFoundError(CallerError):
    """There is no sampler of that name."""

    status = HTTPStatus.NOT_FOUND


class InitImageNotFoundError(CallerError):
    """There is no picture to start from."""

    status = HTTPStatus.NOT_FOUND


class TaskNotFoundError(CallerError):
    """No task of that id is under way for whoever asks."""

    status = HTTPStatus.NOT_FOUND


class EncodedImageError(CallerError):
    """A text is no picture in base64; A1111 takes the fault for its own and says 500."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


# word for word what A1111 says
_DETAILS: Mapping[type[ServingError], str] = {
    SamplerNotFoundError: "Sampler not found",
    InitImageNotFoundError: "Init image not found",
    EncodedImageError: "Invalid encoded image",
    AuthenticationError: "Incorrect username or password",
}


def a1111_shape(error: ServingError) -> dict[str, str]:
    """What JSON says of an error: `detail` in A1111's words where it has some, `errors` in ours."""
    detail = _DETAILS.get(type(error), error.message)
    return {"error": "HTTPException", "detail": detail, "body": "", "errors": error.message}
