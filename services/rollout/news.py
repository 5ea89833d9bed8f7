"""The newest record, and a way to wait for a newer one."""

import asyncio

from services.messages import LiveRecord


class News:
    """Hands out what was told last; used from one event loop only."""

    def __init__(self, record: LiveRecord) -> None:
        self.record = record
        self._told = asyncio.Event()

    def tell(self, record: LiveRecord) -> None:
        """Have this record in place of the last, and wake whoever waits; nothing can come in between."""
        self.record = record
        self._told.set()
        self._told = asyncio.Event()

    async def later(self, stamp: str | None, wait_s: float) -> LiveRecord | None:
        """The record as soon as it is another than that of `stamp`; None where it stays so for `wait_s` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                while self.record.stamp == stamp:
                    await self._told.wait()
        except TimeoutError:
            return None
        return self.record
