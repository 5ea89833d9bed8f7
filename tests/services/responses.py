"""What a handle's call gives, without Serve."""

from collections.abc import Awaitable, Callable, Generator
from typing import Any


class Response:
    """A response that can be awaited any number of times; a replica has taken the call at once."""

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, None, Any]:
        return self._work().__await__()

    async def _fetch_future_result_async(self) -> None:
        """What Serve has for whoever waits until a replica has taken the call."""
