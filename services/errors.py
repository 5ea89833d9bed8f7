"""What serving refuses or fails on purpose; each error owns its HTTP status, and its `type` and `code` for OpenAI."""

from http import HTTPStatus

from components.contract import BESIDE, Kind
from components.reference import ComponentRef


class ServingError(Exception):
    """The base: something of ours failed.

    `param` names the field of the request that is at fault. The parts are also the exception's `args`: an error with
    another constructor cannot be unpickled on the far side of a process. `should_retry` overrules what OpenAI's clients
    make of the status, None leaves it to them.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    type = "server_error"
    code: str | None = "internal_error"
    should_retry: bool | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        """Say the sentence alone."""
        return self.message


class StartError(ServingError):
    """A component, the registry or the port makes it impossible to start.

    Its sentence is for operators, with paths and addresses; callers learn only that a component is not to be had.
    """


class BesideError(ServingError):
    """Something of ours failed that requests bring in beside the parts, of whose live versions it says nothing."""


def stage_failure(kind: Kind) -> ServingError:
    """What a caller learns of a fault of the runtime in a stage; the log has the rest."""
    error = BesideError if kind in BESIDE else ServingError
    return error(f"{kind}: something went wrong in this stage")


class CallerError(ServingError):
    """The base of what the caller can mend."""

    status = HTTPStatus.BAD_REQUEST
    type = "invalid_request_error"
    code: str | None = None


class UnreadableBodyError(CallerError):
    """The body is no JSON object."""

    code = "invalid_json"


class BodyTimeoutError(CallerError):
    """The body did not come in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    code = "request_timeout"


class BodyTooLargeError(CallerError):
    """The body is longer than this server reads."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "request_too_large"


class ContentTypeError(CallerError):
    """The body is not of the type that the route reads."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"


class NotAcceptableError(CallerError):
    """No media type that the caller accepts can be given."""

    status = HTTPStatus.NOT_ACCEPTABLE
    code = "not_acceptable"


class AuthenticationError(CallerError):
    """No key was given, or one that is not known; `challenges` say what would be taken, as WWW-Authenticate has it."""

    status = HTTPStatus.UNAUTHORIZED
    type = "authentication_error"
    code = "invalid_api_key"

    def __init__(self, message: str, challenges: tuple[str, ...]) -> None:
        super().__init__(message)
        self.args = (message, challenges)
        self.challenges = challenges


class PermissionDeniedError(CallerError):
    """A key may not do this, now or later."""

    status = HTTPStatus.FORBIDDEN
    type = "permission_error"
    code = "permission_denied"


class FieldError(CallerError):
    """A field has a value outside its limits, is unknown, or asks for what does nothing here."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_value"


class UnknownModelError(CallerError):
    """No model of that name is served."""

    status = HTTPStatus.NOT_FOUND
    code = "model_not_found"


class OverloadedError(ServingError):
    """As much waits as may wait; try again after `retry_after_s` seconds, where they can be told."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "rate_limit_error"
    code = "overloaded"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.args = (message, retry_after_s)
        self.retry_after_s = retry_after_s


class HeldTooManyError(OverloadedError):
    """As many requests wait for a stage without replicas as may; others, which do not need it, may be let in."""


class KeyLimitError(OverloadedError):
    """A key has asked for as much as it may for now."""

    code = "rate_limit_exceeded"


class DeadlineExceededError(ServingError):
    """The request's own deadline has passed, or would before it is done."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    type = "timeout_error"
    code = "deadline_exceeded"
    # it wanted the picture by now or not at all
    should_retry = False


class GivenUpError(ServingError):
    """Replicas stopped while they worked on the request, one after the other; it may be what stops them."""

    code = "given_up"
    should_retry = False


class NonFiniteImageError(ServingError):
    """There is no picture: what came of the VAE decoder was not finite, or of one colour everywhere.

    `pin` is the version at fault: the denoiser's where its latents were not finite already.
    """

    code = "non_finite_image"

    def __init__(self, message: str, pin: ComponentRef) -> None:
        super().__init__(message)
        self.args = (message, pin)
        self.pin = pin


class LatentsNotFoundError(CallerError):
    """There are no latents of that id for whoever asks: never were, or not any more, or they are another's."""

    status = HTTPStatus.NOT_FOUND
    code = "latents_not_found"


class FileNotKeptError(ServingError):
    """A store has no room for a file, or its place does not take it."""

    code = "file_not_kept"


class PictureNotKeptError(ServingError):
    """A picture was drawn and cannot be kept, so that no link could show it; drawn again it would be no better."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    code = "picture_not_kept"
    should_retry = False


class LinkSignatureError(CallerError):
    """A link to a picture is none of ours."""

    status = HTTPStatus.FORBIDDEN
    code = "invalid_signature"


class LinkExpiredError(CallerError):
    """A link's time is over, or its picture had to make room."""

    status = HTTPStatus.GONE
    code = "link_expired"


class LatentsNotKeptError(ServingError):
    """The store has no room for latents, or its place does not take them."""

    code = "latents_not_kept"


class UnavailableError(ServingError):
    """A deployment has no replica just now, or the server is about to stop."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"
