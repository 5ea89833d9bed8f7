"""One walk on a denoiser's replica: what it was asked for, and what it tells on its way."""

import asyncio
from dataclasses import dataclass, field
from typing import TypeAlias

from components.messages import FloatArray, Snapshot
from components.reference import ComponentRef
from diffusion.batcher import Ticket
from pipeline.denoiser import Denoiser
from pipeline.track import Track
from services.messages import Terms, WalkReport


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a walk came to its replica: the seconds of the replica's clock, and how many runs had begun by then."""

    seconds: float
    runs: int


@dataclass(frozen=True, slots=True)
class Errand:
    """What a walk is for: its request, which came `waited_s` seconds before it, its version, how often it reports."""

    order: str
    pin: ComponentRef
    terms: Terms
    waited_s: float
    report_every: int
    preview_every: int = 0


# an exception ends the walk
News: TypeAlias = WalkReport | Exception


@dataclass(slots=True, eq=False)
class ActiveWalk:
    """A walk that was admitted and has not ended; used from one event loop, but for the track while it runs."""

    track: Track
    stage: Denoiser
    errand: Errand
    arrival: Arrival
    ticket: Ticket
    found_free_row: bool
    begun: bool = False
    news: asyncio.Queue[News] = field(default_factory=asyncio.Queue)
    _told: bool = False
    _previewed: int = 0
    _unreported: list[FloatArray] = field(default_factory=list)

    def tell(self) -> None:
        """Report the evaluation that was just answered, if a report is due."""
        track = self.track
        if track.done:
            self.news.put_nowait(WalkReport(track.steps, track.steps, Snapshot(), latents=track.latents))
            return
        assert track.estimate is not None, "an evaluation was answered"
        self._unreported.append(track.estimate)
        with_preview = self._preview_is_due()
        # The first evaluation is always told: whether it ever got that far tells a request that stops replicas from
        # those that were only beside it.
        first = not self._told
        if not (first or with_preview or len(self._unreported) >= self.errand.report_every):
            return
        self._told = True
        preview = self.stage.preview(track.estimate) if with_preview else None
        progress = Snapshot(tuple(self._unreported), track.agreed)
        self._unreported.clear()
        self.news.put_nowait(WalkReport(track.step, track.steps, progress, preview))

    def _preview_is_due(self) -> bool:
        every = self.errand.preview_every
        if not every or self.track.step - self._previewed < every:
            return False
        self._previewed = self.track.step
        return True
