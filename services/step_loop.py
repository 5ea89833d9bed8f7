"""Driving the step batcher: walks come and go on one event loop, their runs follow one another in a worker thread."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from components.messages import Snapshot
from diffusion.batcher import Limits, Run, StepBatcher, Ticket
from diffusion.errors import DeadlineError, DiffusionError, OverloadedError
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.track import Track
from runtime.errors import RuntimeFault
from runtime.interrupt import Interrupt
from services import errors
from services.messages import WalkReport
from services.metrics import DenoiserMetrics
from services.served_rate import ServedRate
from services.walks import ActiveWalk, Arrival, Errand

_log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True, eq=False)
class _UnderWay:
    """A run that has begun: the walks that share it, whose first it is, and what can break it off.

    `faults` holds, once it has ended, what went wrong for each of the walks.
    """

    run: Run
    number: int
    started: float
    walks: tuple[ActiveWalk, ...]
    first_of: tuple[ActiveWalk, ...]
    interrupt: Interrupt
    faults: asyncio.Future[list[Exception | None]]


@dataclass(frozen=True, slots=True, eq=False)
class _Settled:
    """A run that has ended: the walks that it moved, and those that it failed with why."""

    under_way: _UnderWay
    seconds: float
    moved: tuple[ActiveWalk, ...]
    failed: tuple[tuple[ActiveWalk, Exception], ...]


class StepLoop:
    """Runs all walks of one replica, every evaluation with whatever others the policy puts beside it.

    Everything that waits, waits in the policy. One event loop uses it.
    """

    def __init__(
        self,
        limits: Limits,
        metrics: DenoiserMetrics,
        on_run: Callable[[Errand, Denoiser, RuntimeFault | None], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Run under `limits`; `on_run` learns of each walk's run whether the session could do it."""
        self._limits = limits
        self._metrics = metrics
        self._on_run = on_run
        self._clock = clock
        self._batcher = StepBatcher(limits)
        self._rate = ServedRate()
        self._active: dict[str, ActiveWalk] = {}
        self._runs = 0
        self._under_way: _UnderWay | None = None
        self._driver: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="denoiser")
        self._broken = False

    def arrive(self) -> Arrival:
        """Note that a walk has come in; its terms count from here, though it is admitted a little later."""
        return Arrival(self._clock(), self._runs)

    async def walk(self, arrival: Arrival, errand: Errand, stage: Denoiser, track: Track) -> AsyncGenerator[WalkReport]:
        """Walk a track to its end and report on the way; whoever stops listening ends it.

        Raises:
            OverloadedError: as much work waits as may wait.
            DeadlineExceededError: its deadline has passed, or could not be met.
            RequestError: it could never run within the limits.
            ServingError: the runtime could not run it.
        """
        if track.done:
            yield WalkReport(track.steps, track.steps, Snapshot(), latents=track.latents)
            return
        walk = self._admit(arrival, errand, stage, track)
        try:
            while True:
                news = await walk.news.get()
                if isinstance(news, Exception):
                    raise news
                yield news
                if news.latents is not None:
                    return
        finally:
            self._end(walk, "caller_left")

    def check_health(self) -> None:
        """Tell whether the loop can still work.

        Raises:
            ServingError: it cannot.
        """
        if self._broken:
            raise _failure()

    def _admit(self, arrival: Arrival, errand: Errand, stage: Denoiser, track: Track) -> ActiveWalk:
        terms = errand.terms
        height, width = track.query.latents.shape[2:]
        ticket = Ticket(
            id=uuid.uuid4().hex,
            tenant=terms.tenant,
            signature=(errand.pin, track.signature),
            pixels=height * width,
            rows=track.rows,
            evaluations=track.evaluations - track.evaluation,
            priority=terms.priority,
            deadline=None if terms.deadline_s is None else arrival.seconds - errand.waited_s + terms.deadline_s,
            request=errand.order,
        )
        walk = ActiveWalk(track, stage, errand, arrival, ticket, self._has_room(ticket))
        try:
            self._batcher.add(ticket, self._clock(), self._rate.per_second)
        except OverloadedError:
            self._metrics.refused(errand.pin, "overloaded")
            raise errors.OverloadedError(
                "as much work waits as may wait; try again later", self._wait(ticket)
            ) from None
        except DeadlineError:
            self._metrics.refused(errand.pin, "deadline")
            raise errors.DeadlineExceededError(_cannot_be_met(terms.deadline_s), "deadline_s") from None
        except DiffusionError as error:
            self._metrics.refused(errand.pin, "limits")
            raise RequestError(error.field, str(error)) from None
        self._active[ticket.id] = walk
        self._metrics.admitted(errand.pin)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
            self._driver.add_done_callback(self._driven)
        return walk

    def _has_room(self, ticket: Ticket) -> bool:
        """Whether the next run has a row for it beside all that are here."""
        others = [walk.ticket for walk in self._active.values()]
        rows = ticket.rows + sum(other.rows for other in others)
        return rows <= self._limits.rows and ticket.cost + sum(other.cost for other in others) <= self._limits.pixels

    def _wait(self, ticket: Ticket) -> int | None:
        """Whole seconds until the bound would let a ticket in, at least 1; None before anything was measured."""
        rate = self._rate.per_second
        return None if rate is None else max(1, math.ceil(self._batcher.work_before(ticket) / rate))

    def _end(self, walk: ActiveWalk, reason: str) -> None:
        """Never run a walk again; one that has ended already is left as it is."""
        if self._active.pop(walk.ticket.id, None) is None:
            return
        wasted = self._batcher.evaluations_wasted
        self._batcher.cancel(walk.ticket.id)
        self._metrics.cancelled(walk.errand.pin, reason, self._batcher.evaluations_wasted - wasted)
        if self._under_way is not None and self._batcher.abandoned:
            self._under_way.interrupt.break_off()

    async def _drive(self) -> None:
        settled: _Settled | None = None
        while (run := self._next()) is not None:
            self._under_way = self._start(run)
            # told while the next run is under way, which need not wait for it
            self._tell(settled)
            settled = await self._settle(self._under_way)
        self._tell(settled)

    def _driven(self, driver: asyncio.Task[None]) -> None:
        if driver.cancelled() or (error := driver.exception()) is None:
            return
        # a fault of ours: nobody must wait for ever, and Serve starts another replica in this place
        _log.error("denoiser: the step loop broke: %s", type(error).__name__)
        self._broken = True
        for walk in self._active.values():
            walk.news.put_nowait(_failure())
        self._active.clear()

    def _next(self) -> Run | None:
        now = self._clock()
        for walk in list(self._active.values()):
            if walk.ticket.deadline is not None and walk.ticket.deadline <= now:
                track = walk.track
                walk.news.put_nowait(
                    errors.DeadlineExceededError(
                        f"deadline_s={walk.errand.terms.deadline_s:g}: "
                        f"has passed after {track.step} of {track.steps} steps",
                        "deadline_s",
                    )
                )
                self._end(walk, "deadline")
        return self._batcher.schedule() or None

    def _start(self, run: Run) -> _UnderWay:
        walks = tuple(self._active[ticket.id] for ticket in run.tickets)
        first_of = tuple(walk for walk in walks if not walk.begun)
        for walk in first_of:
            walk.begun = True
        started, interrupt = self._clock(), Interrupt()
        tracks = [walk.track for walk in walks]
        faults = asyncio.get_running_loop().run_in_executor(self._thread, _advance, walks[0].stage, tracks, interrupt)
        self._runs += 1
        return _UnderWay(run, self._runs - 1, started, walks, first_of, interrupt, faults)

    async def _settle(self, under_way: _UnderWay) -> _Settled:
        faults = await under_way.faults
        seconds = self._clock() - under_way.started
        self._under_way = None
        self._rate.served(under_way.run.cost, seconds)
        returning: list[Ticket] = []
        moved: list[ActiveWalk] = []
        failed: list[tuple[ActiveWalk, Exception]] = []
        for walk, fault in zip(under_way.walks, faults, strict=True):
            if walk.ticket.id not in self._active:
                continue
            if fault is not None:
                del self._active[walk.ticket.id]
                failed.append((walk, fault))
                continue
            moved.append(walk)
            if walk.track.done:
                del self._active[walk.ticket.id]
            else:
                walk.ticket = walk.ticket.again(walk.track.rows)
                returning.append(walk.ticket)
        self._batcher.done(returning)
        return _Settled(under_way, seconds, tuple(moved), tuple(failed))

    def _tell(self, settled: _Settled | None) -> None:
        if settled is None:
            return
        under_way = settled.under_way
        for walk in settled.moved:
            walk.tell()
        for walk, fault in settled.failed:
            walk.news.put_nowait(_said(walk, fault))
        pin = under_way.walks[0].errand.pin
        for walk in settled.moved:
            self._on_run(walk.errand, walk.stage, None)
        for walk, fault in settled.failed:
            if isinstance(fault, RuntimeFault):
                self._on_run(walk.errand, walk.stage, fault)
        for walk in under_way.first_of:
            waited = under_way.number - walk.arrival.runs
            self._metrics.began(pin, under_way.started - walk.arrival.seconds, waited, walk.found_free_row)
        run = under_way.run
        self._metrics.ran(pin, len(run.tickets), run.rows, run.rows / self._limits.rows, settled.seconds)
        self._metrics.waits(pin, self._batcher.waiting, self._batcher.queued)


def _advance(stage: Denoiser, tracks: Sequence[Track], interrupt: Interrupt) -> list[Exception | None]:
    """Move tracks by one evaluation together, and if that fails each alone: one may be at fault for all."""
    together = _advanced(stage, tracks, interrupt)
    if together is None or len(tracks) == 1 or interrupt.asked:
        return [together] * len(tracks)
    return [_advanced(stage, [track], interrupt) for track in tracks]


def _advanced(stage: Denoiser, tracks: Sequence[Track], interrupt: Interrupt) -> Exception | None:
    try:
        stage.advance(tracks, interrupt)
    except Exception as error:  # noqa: BLE001 - raised again to whoever waits for the walk
        return error
    return None


def _said(walk: ActiveWalk, fault: Exception) -> Exception:
    """What a caller learns of a fault; the log has the rest."""
    _log.error("%s: %s", walk.errand.pin, fault if isinstance(fault, RuntimeFault) else type(fault).__name__)
    return _failure()


def _failure() -> errors.ServingError:
    return errors.ServingError("denoiser: something went wrong in this stage")


def _cannot_be_met(deadline_s: float | None) -> str:
    return f"deadline_s={deadline_s:g}: cannot be met with what waits already"
