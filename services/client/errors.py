"""What can go wrong between us and a server."""

from http import HTTPStatus

_RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class ClientError(Exception):
    """A call came to nothing; the message is one sentence. `request_id` is what the server's operators look for."""

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id


class InputError(ClientError):
    """What was given cannot be used; no server was asked."""


class AddressError(InputError):
    """What was given is no address of a server."""


class ServerRefused(ClientError):  # noqa: N818 - it is the server's answer, and seldom a fault
    """The server answered that it will not, or cannot.

    `param` is the field at fault, `code` the reason in one word. `status` is None where it came within a stream, whose
    status was out already. `retry_after_s` is how long to wait where the server says so.
    """

    def __init__(
        self,
        message: str,
        status: int | None,
        param: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s: float | None = None
        self.should_retry: bool | None = None

    @property
    def busy(self) -> bool:
        """Whether there was no room, or nobody, for it just now: nothing came of it, and later it may be taken."""
        return self.status in _RETRIED


class Unreachable(ClientError):  # noqa: N818 - as ServerRefused
    """Nobody answered, or the line broke; where it was `sent` the server may have worked on it."""

    def __init__(self, message: str, request_id: str | None = None, *, sent: bool) -> None:
        super().__init__(message, request_id)
        self.sent = sent


class TimedOut(ClientError):  # noqa: N818 - as ServerRefused
    """Nothing came for as long as `timeout_s`; asked again it would hardly come sooner."""


class UnreadableAnswer(ClientError):  # noqa: N818 - as ServerRefused
    """Who answered is no such server, or one that speaks otherwise."""
