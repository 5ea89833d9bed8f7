"""Since when the registry has not answered, and why."""

import logging
import time

from services.metrics.rollout import RolloutMetrics

_log = logging.getLogger("ray.serve")


class Outage:
    """Says whether the registry answers; `since` is in seconds since 1970, both are None while it does."""

    def __init__(self, metrics: RolloutMetrics, reason: str | None) -> None:
        self._metrics = metrics
        self.reason = reason
        self.since = None if reason is None else time.time()

    @property
    def seconds(self) -> float | None:
        """How long it has not answered, None while it does."""
        return None if self.since is None else max(0.0, time.time() - self.since)

    def begin(self, reason: str) -> None:
        """It does not answer, whether for the first time or still."""
        if self.since is None:
            self.since = time.time()
            _log.warning("%s; what was live last is served on", reason)
        self.reason = reason
        self.measure()

    def end(self) -> None:
        """It answers."""
        self.since = self.reason = None
        self.measure()

    def measure(self) -> None:
        """Bring the figure up to date."""
        self._metrics.away(self.seconds or 0.0)
