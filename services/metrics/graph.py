"""What the graph counts."""

from components.reference import ComponentRef
from services.metrics.catalogue import Graph
from services.metrics.made import counter, gauge, histogram
from services.metrics.phases import PhaseMetrics


class GraphMetrics:
    """What the graph counts of the stages' replicas."""

    def __init__(self) -> None:
        self._lost = counter(Graph.LOST)
        self._given_up = counter(Graph.GIVEN_UP)
        self._held = gauge(Graph.HELD)
        self._start_seconds = histogram(Graph.START_SECONDS)
        self._phases = PhaseMetrics()
        self._sent_bytes = counter(Graph.SENT_BYTES)
        self._non_finite = counter(Graph.NON_FINITE)
        self._shadows = counter(Graph.SHADOWS)
        self._not_kept = counter(Graph.LATENTS_NOT_KEPT)

    def lost(self, stage: str) -> None:
        """A replica stopped while it worked on a call."""
        self._lost.inc(tags={"stage": stage})

    def given_up(self, stage: str) -> None:
        """A call is not tried again."""
        self._given_up.inc(tags={"stage": stage})

    def held(self, stage: str, requests: int) -> None:
        """So many requests wait for the first replica of a stage."""
        self._held.set(requests, tags={"stage": stage})

    def started(self, stage: str, seconds: float) -> None:
        """A stage has a replica again, so long after the first request was held for it."""
        self._start_seconds.observe(seconds, tags={"stage": stage})

    def answered(self, stage: str, pin: ComponentRef, size: int, queued_s: float | None, transfer_s: float) -> None:
        """A stage answered a call, with arrays of so many bytes, more than 0; None: its replica tells of its queue."""
        self._sent_bytes.inc(size, tags={"stage": stage, "version": str(pin)})
        if queued_s is not None:
            self._phases.took(stage, str(pin), "queue", queued_s)
        self._phases.took(stage, str(pin), "transfer", transfer_s)

    def no_picture(self, stage: str, pin: ComponentRef) -> None:
        """A version of a stage made no picture."""
        self._non_finite.inc(tags={"stage": stage, "version": str(pin)})

    def shadowed(self, pin: ComponentRef, outcome: str, pictures: int = 1) -> None:
        """Pictures were decoded once more by a candidate, or would have been."""
        self._shadows.inc(pictures, tags={"version": str(pin), "outcome": outcome})

    def not_kept(self) -> None:
        """A picture's latents could not be kept."""
        self._not_kept.inc()
