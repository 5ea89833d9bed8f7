"""One walk on a denoiser's replica: what it was asked for, and what it tells on its way."""

import asyncio
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from components.messages import FloatArray, Snapshot
from diffusion.batcher import Ticket
from pipeline.denoiser import Denoiser
from pipeline.track import Track
from services.messages import WalkOrder, WalkReport
from services.timelines.run_log import Ran, RunLog


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a walk came to its replica: the seconds of the replica's clock, and how many runs had begun by then."""

    seconds: float
    runs: int


# an exception ends the walk
News: TypeAlias = WalkReport | Exception


@dataclass(slots=True, eq=False)
class ActiveWalk:
    """A walk that was admitted and has not ended; used from one event loop.

    What is logged of it is logged in its `context`, which knows its request's id.

    While a run is on its track belongs to the worker thread: `moved` takes from it what is to be told, between two
    runs, and `tell` tells it while the next one is on.
    """

    track: Track
    stage: Denoiser
    order: WalkOrder
    arrival: Arrival
    ticket: Ticket
    found_free_row: bool
    step: int
    admitted: float
    begun: bool = False
    ran_s: float = 0.0
    waited_s: float = 0.0
    position: int = 0
    timer: asyncio.TimerHandle | None = None
    news: asyncio.Queue[News] = field(default_factory=asyncio.Queue)
    log: RunLog = field(default_factory=RunLog)
    context: Context = field(default_factory=copy_context)
    _previewed: int = 0
    _unreported: list[FloatArray] = field(default_factory=list)
    _report: WalkReport | None = None
    _pictured: FloatArray | None = None

    def shared(self, seconds: float, now: float) -> None:
        """Take note of a run that has ended, after so many seconds: `ran_s` adds them up, `waited_s` is the rest."""
        self.ran_s += seconds
        self.waited_s = max(0.0, now - self.admitted - self.ran_s)

    @property
    def alone(self) -> bool:
        """Whether it shares no run, because it may be what stopped another replica."""
        return self.track.evaluation < self.order.alone_until

    def waits_at(self, position: int) -> None:
        """Tell how many wait before it, if that is less than it was told, and somebody wants to know."""
        if self.order.tell_position and position != self.position:
            self.position = position
            self.news.put_nowait(WalkReport(self.track.step, self.track.steps, position=position))

    def moved(self, begun: float, seconds: float, rows: int, pictures: int) -> None:
        """Take note of the evaluation that was just answered, in a run of so many rows and pictures."""
        track = self.track
        self.step = track.step
        self.log.add(Ran(begun, seconds, rows, pictures, track.evaluation))
        if track.done:
            self._report = WalkReport(track.steps, track.steps, latents=track.latents)
            return
        assert track.estimate is not None, "an evaluation was answered"
        first = track.evaluation == 1 + len(self.order.snapshot.estimates)
        # whoever said that it was at risk must say that it is no more
        apart = track.evaluation <= self.order.alone_until
        self._unreported.append(track.estimate)
        self._pictured = track.estimate if self._preview_is_due() else None
        # The first evaluation is always told: a run of its own tells a request that stops replicas from its mates.
        if first or apart or self._pictured is not None or len(self._unreported) >= self.order.report_every:
            progress = Snapshot(tuple(self._unreported), track.agreed)
            self._report = WalkReport(track.step, track.steps, progress)
            self._unreported.clear()

    def tell(self, now: float, replica: str) -> None:
        """Report what was noted, if a report is due; `now` is by the clock of `replica`, on which this is."""
        report, self._report = self._report, None
        if report is None:
            return
        if self._pictured is not None and report.latents is None:
            report = replace(report, preview=self.stage.preview(self._pictured))
        if report.latents is not None:
            report = replace(report, span=self.log.span(self.arrival.seconds, now, self.order.pin, replica))
        self.news.put_nowait(report)

    def _preview_is_due(self) -> bool:
        every = self.order.preview_every
        if not every or self.track.step - self._previewed < every:
            return False
        self._previewed = self.track.step
        return True
