"""What is refused of jobs, and how one of them ended."""

from http import HTTPStatus

from services.errors import CallerError, OverloadedError, ServingError


class JobNotFoundError(CallerError):
    """There is no job of that id for whoever asks: never was, or it is another's."""

    status = HTTPStatus.NOT_FOUND
    code = "job_not_found"


class JobExpiredError(CallerError):
    """A job was there, and is kept no more."""

    status = HTTPStatus.GONE
    code = "job_expired"


class JobEndedError(CallerError):
    """A job has ended, so that it cannot be cancelled."""

    status = HTTPStatus.CONFLICT
    code = "job_ended"
    should_retry = False


class JobCancelledError(CallerError):
    """Somebody cancelled the job that a request waits for."""

    status = HTTPStatus.CONFLICT
    code = "job_cancelled"
    should_retry = False


class IdempotencyConflictError(CallerError):
    """An idempotency key came before, with another request."""

    status = HTTPStatus.CONFLICT
    code = "idempotency_conflict"
    should_retry = False


class JobsFullError(OverloadedError):
    """As many jobs wait, or are kept, as may be."""

    code = "too_many_jobs"


class JobNotKeptError(ServingError):
    """The disk does not take a job."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    code = "job_not_kept"


class JobFailedError(ServingError):
    """How a job failed, for whoever waits for it: the error of then, with its status, type and code."""

    def __init__(self, message: str, param: str | None, kind: tuple[int, str, str | None, bool | None]) -> None:
        super().__init__(message, param)
        self.args = (message, param, kind)
        status, self.type, self.code, self.should_retry = kind
        self.status = HTTPStatus(status)


class SupersededError(Exception):
    """Another runner has taken over the store."""
