"""What every stage's replica counts."""

from collections.abc import Mapping

from components.reference import ComponentRef
from services.metrics.catalogue import Stages
from services.metrics.made import counter, gauge, histogram
from services.metrics.phases import Phase, PhaseMetrics


class StageMetrics:
    """What one stage's replica counts; every figure carries the component's version."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._seconds = histogram(Stages.SECONDS)
        self._phases = PhaseMetrics()
        self._occupancy = gauge(Stages.OCCUPANCY)
        self._failures = counter(Stages.FAILURES)
        self._abandoned = counter(Stages.ABANDONED)
        self._open_seconds = histogram(Stages.OPEN_SECONDS)
        self._copies = counter(Stages.COMPILED_COPIES)
        self._held = gauge(Stages.VERSIONS_HELD)
        self._held_bytes = gauge(Stages.VERSIONS_HELD_BYTES)
        self._had: set[ComponentRef] = set()

    def worked(self, version: str, seconds: float) -> None:
        """One call was done."""
        self._seconds.observe(seconds, tags=self._tags(version))

    def took(self, version: str, phase: Phase, seconds: float) -> None:
        """One call, or one opening, spent so long in a phase."""
        self._phases.took(self._stage, version, phase, seconds)

    def occupied(self, version: str, share: float) -> None:
        """A version's calls take this share of what a replica works on at a time, 0..1."""
        self._occupancy.set(share, tags=self._tags(version))

    def failed(self, version: str) -> None:
        """One call raised."""
        self._failures.inc(tags=self._tags(version))

    def abandoned(self, version: str) -> None:
        """One call was given up because nobody waits for it."""
        self._abandoned.inc(tags=self._tags(version))

    def opened(self, version: str, copy: str, seconds: float) -> None:
        """A version was opened; `copy` says what became of its compiled copy."""
        self._open_seconds.observe(seconds, tags=self._tags(version))
        self._copies.inc(tags={**self._tags(version), "outcome": copy})

    def holds(self, sizes: Mapping[ComponentRef, int]) -> None:
        """These versions are open, each of so many bytes."""
        self._held.set(len(sizes), tags={"stage": self._stage})
        self._had |= sizes.keys()
        for pin in self._had:
            self._held_bytes.set(sizes.get(pin, 0), tags=self._tags(str(pin)))

    def _tags(self, version: str) -> dict[str, str]:
        return {"stage": self._stage, "version": version}
