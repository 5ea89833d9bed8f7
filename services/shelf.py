"""The versions of one stage that a replica holds open."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from components.reference import ComponentRef

Stage = TypeVar("Stage")

MOST_OPEN = 2


class Shelf(Generic[Stage]):
    """Opens each pinned version once, off the event loop, and keeps the `MOST_OPEN` newest.

    A version that leaves the shelf stays open for the calls that hold it. Used from one event loop only.
    """

    def __init__(self, open_stage: Callable[[ComponentRef], Stage]) -> None:
        self._open_stage = open_stage
        self._opening: dict[ComponentRef, asyncio.Task[Stage]] = {}

    async def get(self, pin: ComponentRef) -> Stage:
        """The stage of a pinned version; raises what opening it raises, and tries again at the next call."""
        if pin not in self._opening:
            self._opening[pin] = asyncio.create_task(asyncio.to_thread(self._open_stage, pin))
            for oldest in list(self._opening)[:-MOST_OPEN]:
                del self._opening[oldest]
        task = self._opening[pin]
        try:
            # a caller that goes away must not stop the opening for the others
            return await asyncio.shield(task)
        except Exception:
            if self._opening.get(pin) is task:
                del self._opening[pin]
            raise
