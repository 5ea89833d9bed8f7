"""What the stores of files count."""

from typing import Literal

from services.metrics.catalogue import Stores
from services.metrics.made import counter, gauge

_OF = {
    "latents": (Stores.LATENTS_KEPT, Stores.LATENTS_BYTES, Stores.LATENTS_DROPPED),
    "pictures": (Stores.PICTURES_KEPT, Stores.PICTURES_BYTES, Stores.PICTURES_DROPPED),
}


class StoreMetrics:
    """What a store counts; `kept` names what it keeps: latents, or the pictures of links."""

    def __init__(self, kept: Literal["latents", "pictures"]) -> None:
        count, size, dropped = _OF[kept]
        self._kept = gauge(count)
        self._bytes = gauge(size)
        self._dropped = counter(dropped)

    def holds(self, count: int, size: int) -> None:
        """So many are kept, in so many bytes."""
        self._kept.set(count)
        self._bytes.set(size)

    def dropped(self, reason: str) -> None:
        """One went: expired, full or damaged."""
        self._dropped.inc(tags={"reason": reason})
