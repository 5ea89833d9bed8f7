"""What the denoiser's step loop counts."""

from components.contract import Kind
from components.reference import ComponentRef
from services.metrics.catalogue import Denoiser
from services.metrics.made import counter, gauge, histogram
from services.metrics.phases import PhaseMetrics


class DenoiserMetrics:
    """What the step loop of one denoiser's replica counts; every figure carries the component's version."""

    def __init__(self) -> None:
        self._rows = histogram(Denoiser.ROWS)
        self._runs = counter(Denoiser.RUNS)
        self._run_seconds = histogram(Denoiser.RUN_SECONDS)
        self._evaluations = counter(Denoiser.EVALUATIONS)
        self._wasted = counter(Denoiser.WASTED)
        self._queue_seconds = histogram(Denoiser.QUEUE_SECONDS)
        self._runs_waited = histogram(Denoiser.RUNS_WAITED)
        self._admitted = counter(Denoiser.ADMITTED)
        self._refused = counter(Denoiser.REFUSED)
        self._cancelled = counter(Denoiser.CANCELLED)
        self._split = counter(Denoiser.SPLIT_RUNS)
        self._phases = PhaseMetrics()
        # the replica's, whatever versions it has
        self._occupancy = gauge(Denoiser.OCCUPANCY)
        self._waiting = gauge(Denoiser.WAITING)
        self._queued = gauge(Denoiser.QUEUED)

    def admitted(self, pin: ComponentRef) -> None:
        """A walk was admitted."""
        self._admitted.inc(tags=_version(pin))

    def refused(self, pin: ComponentRef, reason: str) -> None:
        """A walk was turned away."""
        self._refused.inc(tags={**_version(pin), "reason": reason})

    def cancelled(self, pin: ComponentRef, reason: str, evaluations_wasted: int) -> None:
        """A walk was given up, after so many evaluations."""
        self._cancelled.inc(tags={**_version(pin), "reason": reason})
        if evaluations_wasted:
            self._wasted.inc(evaluations_wasted, tags=_version(pin))

    def began(self, pin: ComponentRef, seconds: float, runs: int, found_free_row: bool) -> None:
        """A walk's first run began, so many seconds after its arrival and with so many runs before it."""
        self._queue_seconds.observe(seconds, tags=_version(pin))
        self._runs_waited.observe(runs, tags={**_version(pin), "free_row": str(found_free_row).lower()})

    def ran(self, pin: ComponentRef, evaluations: int, rows: int, occupancy: float, seconds: float) -> None:
        """A run has ended."""
        tags = _version(pin)
        self._runs.inc(tags=tags)
        self._evaluations.inc(evaluations, tags=tags)
        self._rows.observe(rows, tags=tags)
        self._run_seconds.observe(seconds, tags=tags)
        self._occupancy.set(occupancy)

    def walked(self, pin: ComponentRef, waited_s: float, ran_s: float) -> None:
        """A walk came to its end: so long it waited for runs, and so long it was in them."""
        self._phases.took(Kind.DENOISER, str(pin), "queue", waited_s)
        self._phases.took(Kind.DENOISER, str(pin), "run", ran_s)

    def split(self, pin: ComponentRef) -> None:
        """A run failed for all together, and was done again picture by picture."""
        self._split.inc(tags=_version(pin))

    def waits(self, walks: int, work: int) -> None:
        """So many walks wait, and so much work is to be done."""
        self._waiting.set(walks)
        self._queued.set(work)

    def idle(self) -> None:
        """There is no run any more."""
        self._occupancy.set(0)


def _version(pin: ComponentRef) -> dict[str, str]:
    return {"version": str(pin)}
