"""What the text encoder's caches did."""

import threading
from weakref import WeakKeyDictionary

from pipeline.prompts.cache import CacheFigures
from services.metrics.catalogue import TextEncoder
from services.metrics.made import counter, gauge


class CacheMetrics:
    """What the caches of conditioning of one text encoder's replica did; there is one for each version held.

    Usable from any number of threads at once.
    """

    def __init__(self) -> None:
        self._lookups = counter(TextEncoder.CACHE)
        self._bytes = gauge(TextEncoder.CACHE_BYTES)
        self._lock = threading.Lock()
        self._counted: WeakKeyDictionary[object, CacheFigures] = WeakKeyDictionary()

    def used(self, owner: object, version: str, figures: CacheFigures) -> None:
        """The cache that `owner`, a version's stage, has was used, and says what it did by now."""
        tags = {"version": version}
        with self._lock:
            before = self._counted.get(owner, CacheFigures(0, 0, 0, 0))
            # another thread, which came later, may have been here first
            hits, misses = max(before.hits, figures.hits), max(before.misses, figures.misses)
            self._counted[owner] = figures._replace(hits=hits, misses=misses)
            size = sum(one.size for one in self._counted.values())
        for outcome, more in (("hit", hits - before.hits), ("miss", misses - before.misses)):
            if more:
                self._lookups.inc(more, tags={**tags, "outcome": outcome})
        self._bytes.set(size)
