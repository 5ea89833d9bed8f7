"""What the jobs' replica counts."""

from collections.abc import Mapping

from services.jobs.records import JobStatus
from services.metrics.catalogue import Ingress, Jobs
from services.metrics.made import counter, gauge


class JobMetrics:
    """What the jobs' replica counts."""

    def __init__(self) -> None:
        self._jobs = gauge(Jobs.JOBS)
        self._bytes = gauge(Jobs.BYTES)
        self._over = counter(Jobs.OVER)
        self._dropped = counter(Jobs.DROPPED)
        self._webhooks = counter(Jobs.WEBHOOKS)
        self._version_requests = counter(Ingress.VERSION_REQUESTS)

    def holds(self, counts: Mapping[JobStatus, int], size: int) -> None:
        """So many jobs of each status are kept, in so many bytes."""
        for status, count in counts.items():
            self._jobs.set(count, tags={"status": status})
        self._bytes.set(size)

    def over(self, status: JobStatus) -> None:
        """A job has ended."""
        self._over.inc(tags={"status": status})

    def dropped(self, reason: str, count: int) -> None:
        """So many jobs went: expired or full."""
        self._dropped.inc(count, tags={"reason": reason})

    def told(self, outcome: str) -> None:
        """A webhook was told, or not: delivered, failed or given_up."""
        self._webhooks.inc(tags={"outcome": outcome})

    def took_part(self, stage: str, version: str, outcome: str) -> None:
        """A version took part in a job's request: ok, error or non_finite."""
        self._version_requests.inc(tags={"stage": stage, "version": version, "outcome": outcome})
