"""A request's own deadline, which counts from its arrival."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.errors import DeadlineExceededError


@dataclass(frozen=True, slots=True)
class Deadline:
    """`seconds` after a request has `arrived`, by the monotonic clock, nobody wants it any more; None: at any time."""

    seconds: float | None = None
    arrived: float = field(default_factory=time.monotonic)

    def waited_s(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self.arrived

    def require(self, when: str) -> None:
        """Refuse to go on once it has passed; `when` ends the sentence that says so.

        Raises:
            DeadlineExceededError: it has.
        """
        if self.seconds is not None and self.waited_s() >= self.seconds:
            raise self._exceeded(when)

    @asynccontextmanager
    async def ends(self, when: str) -> AsyncIterator[None]:
        """A block that waits for something, and is left when it passes.

        Raises:
            DeadlineExceededError: as `require`.
        """
        limit = asyncio.timeout(None if self.seconds is None else self.seconds - self.waited_s())
        try:
            async with limit:
                yield
        except TimeoutError:
            # whoever waits in the block may have limits of their own
            if not limit.expired():
                raise
            raise self._exceeded(when) from None

    def _exceeded(self, when: str) -> DeadlineExceededError:
        return DeadlineExceededError(f"deadline_s={self.seconds:g}: has passed {when}", "deadline_s")
