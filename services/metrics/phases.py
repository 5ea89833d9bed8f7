"""Where the time of a stage's calls goes."""

from typing import Literal, TypeAlias

from services.metrics.catalogue import Stages
from services.metrics.made import histogram

Phase: TypeAlias = Literal["queue", "load", "run", "transfer"]


class PhaseMetrics:
    """Seconds by phase; whoever has the clock of a phase tells it."""

    def __init__(self) -> None:
        self._seconds = histogram(Stages.PHASE_SECONDS)

    def took(self, stage: str, version: str, phase: Phase, seconds: float) -> None:
        """One call, or one opening, spent so long in a phase."""
        self._seconds.observe(seconds, tags={"stage": stage, "version": version, "phase": phase})
