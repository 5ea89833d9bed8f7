"""Whether and when a call that came to nothing is sent again."""

import enum
from dataclasses import dataclass, field

from services.client.errors import ClientError, ServerRefused, Unreachable


class Repeat(enum.Enum):
    """When a call may be sent again: never, where nothing came of it for sure, or whatever came of it.

    What reads, or draws a picture that the request wholly determines, is as good sent twice: the same seed gives the
    same picture. What leaves the seed to the server, or has latents kept, would be drawn or kept twice where only the
    answer was lost.
    """

    NEVER = enum.auto()
    UNDONE = enum.auto()
    ALWAYS = enum.auto()


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is sent again, and how long each wait may be.

    The server says how long to wait; where it does not, the waits begin with `first_wait_s` and double. Where the
    server wants more than `most_wait_s`, the call ends at once.
    """

    times: int = 4
    most_wait_s: float = 60.0
    first_wait_s: float = 0.5


@dataclass(slots=True)
class Attempts:
    """The attempts of one call."""

    retries: Retries
    repeat: Repeat
    _made: int = field(default=0, init=False)

    def wait_s(self, error: ClientError) -> float:
        """How many seconds to wait before the next attempt, after one that ended in `error`.

        Raises:
            ClientError: `error`, where there is no next one.
        """
        wait_s = self._told_s(error)
        if not self._may(error) or self._made >= self.retries.times or wait_s > self.retries.most_wait_s:
            raise error
        self._made += 1
        return wait_s

    def _told_s(self, error: ClientError) -> float:
        if isinstance(error, ServerRefused) and error.retry_after_s is not None:
            return error.retry_after_s
        return min(self.retries.first_wait_s * 2.0**self._made, self.retries.most_wait_s)

    def _may(self, error: ClientError) -> bool:
        match error:
            case ServerRefused():
                return self.repeat is not Repeat.NEVER and error.busy and error.should_retry is not False
            case Unreachable():
                return self.repeat is Repeat.ALWAYS or (self.repeat is Repeat.UNDONE and not error.sent)
        return False
