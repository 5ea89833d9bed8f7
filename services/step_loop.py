"""Driving the step batcher: walks come and go on one event loop, their runs follow one another in a worker thread."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

from components.contract import Kind
from components.reference import ComponentRef
from diffusion.batcher import Limits, Run, StepBatcher, Ticket
from diffusion.errors import DeadlineError, DiffusionError, OverloadedError
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.held import ControlNetFault
from pipeline.track import Track
from runtime.errors import RuntimeFault
from services import errors
from services.errors import stage_failure
from services.joint_runs import Break, Outcome, advance
from services.messages import WalkOrder, WalkReport
from services.metrics.denoiser import DenoiserMetrics
from services.row_cost import row_pixels
from services.runs import Settled, UnderWay
from services.served_rate import ServedRate
from services.walks import ActiveWalk, Arrival

_log = logging.getLogger("ray.serve")

# What a report takes to leave a process that may end in the next moment, several times over. After a replica stopped,
# all its walks make this pause in turn before some of their runs: it must not be long.
RISK_PAUSE_S = 0.02


class StepLoop:
    """Runs all walks of one replica, every evaluation with whatever others the policy puts beside it.

    Everything that waits, waits in the policy. One event loop uses it.
    """

    def __init__(
        self,
        limits: Limits,
        metrics: DenoiserMetrics,
        on_run: Callable[[ComponentRef, Denoiser, RuntimeFault | None], object],
        clock: Callable[[], float] = time.monotonic,
        replica: str = "",
    ) -> None:
        """Run under `limits`; `on_run` learns of each run of a session whether it could be done.

        `replica` is the name of this one.
        """
        self._limits = limits
        self._metrics = metrics
        self._on_run = on_run
        self._clock = clock
        self._replica = replica
        self._batcher = StepBatcher(limits)
        self._rate = ServedRate()
        self._active: dict[str, ActiveWalk] = {}
        self._runs = 0
        self._under_way: UnderWay | None = None
        # ended, and to be told so while the next run is on
        self._settled: Settled | None = None
        self._driver: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="denoiser")
        self._broken = False

    def arrive(self) -> Arrival:
        """Note that a walk has come in; it is admitted a little later."""
        return Arrival(self._clock(), self._runs)

    async def walk(
        self, arrival: Arrival, order: WalkOrder, stage: Denoiser, track: Track
    ) -> AsyncGenerator[WalkReport, None]:
        """Walk the track of an order to its end and report on the way; whoever stops listening ends it.

        Raises:
            OverloadedError: as much work waits as may wait.
            DeadlineExceededError: its deadline has passed, or could not be met.
            RequestError: it could never run within the limits.
            ServingError: the runtime could not run it.
        """
        walk = self._admit(arrival, order, stage, track)
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

    @property
    def work(self) -> float:
        """What is still to be done for all walks: rows times latent pixels times evaluations."""
        return float(self._batcher.queued)

    @property
    def speed(self) -> float:
        """How much of that was done in a second of late; 0 before there was a run."""
        return self._rate.per_second or 0.0

    def check_health(self) -> None:
        """Tell whether the loop can still work.

        Raises:
            ServingError: it cannot.
        """
        if self._broken:
            raise stage_failure(Kind.DENOISER)

    def _admit(self, arrival: Arrival, order: WalkOrder, stage: Denoiser, track: Track) -> ActiveWalk:
        deadline_s, pin, now = order.terms.deadline_s, order.pin, self._clock()
        ticket = Ticket(
            id=uuid.uuid4().hex,
            tenant=order.terms.tenant,
            signature=(pin, track.signature),
            pixels=row_pixels(track, self._limits),
            rows=track.rows,
            evaluations=track.evaluations - track.evaluation,
            priority=order.terms.priority,
            deadline=None if deadline_s is None else arrival.seconds - order.waited_s + deadline_s,
            request=order.order,
            rows_to_come=track.rows_to_come,
            apart=track.evaluation < order.alone_until,
        )
        walk = ActiveWalk(track, stage, order, arrival, ticket, self._has_room(ticket), track.step, now)
        try:
            self._batcher.add(ticket, now, self._rate.per_second, admitted=order.admitted)
        except OverloadedError:
            self._metrics.refused(pin, "overloaded")
            wait_s = self._wait_s(ticket)
            raise errors.OverloadedError("as much work waits as may wait; try again later", wait_s) from None
        except DeadlineError:
            self._metrics.refused(pin, "deadline")
            sentence = f"deadline_s={deadline_s:g}: cannot be met with what waits already"
            raise errors.DeadlineExceededError(sentence, "deadline_s") from None
        except DiffusionError as error:
            self._metrics.refused(pin, "limits")
            raise RequestError(error.field, str(error)) from None
        self._active[ticket.id] = walk
        if ticket.deadline is not None:
            left_s = max(0.0, ticket.deadline - self._clock())
            walk.timer = asyncio.get_running_loop().call_later(left_s, self._expire, walk)
        self._metrics.admitted(pin)
        self._show_queue()
        if not walk.found_free_row:
            self._tell_positions()
        if self._driver is None or self._driver.done():
            # not in the context of the walk that happened to come first: others would be logged under its request's id
            self._driver = asyncio.create_task(self._drive(), context=Context())
            self._driver.add_done_callback(self._driven)
        return walk

    def _has_room(self, ticket: Ticket) -> bool:
        """Whether the next run has a row for it beside all that are here."""
        others = [walk.ticket for walk in self._active.values()]
        rows = ticket.rows + sum(other.rows for other in others)
        return rows <= self._limits.rows and ticket.cost + sum(other.cost for other in others) <= self._limits.pixels

    def _wait_s(self, ticket: Ticket) -> int | None:
        """Whole seconds until the bound would let a ticket in, at least 1; None before anything was measured."""
        rate = self._rate.per_second
        return None if rate is None else max(1, math.ceil(self._batcher.work_before(ticket) / rate))

    def _expire(self, walk: ActiveWalk) -> None:
        deadline_s = walk.order.terms.deadline_s
        sentence = f"deadline_s={deadline_s:g}: has passed after {walk.step} of {walk.track.steps} steps"
        walk.news.put_nowait(errors.DeadlineExceededError(sentence, "deadline_s"))
        self._end(walk, "deadline")

    def _end(self, walk: ActiveWalk, reason: str) -> None:
        """Never run a walk again; one that has ended already is left as it is."""
        if not self._forget(walk):
            return
        wasted = self._batcher.evaluations_wasted
        self._batcher.cancel(walk.ticket.id)
        self._metrics.cancelled(walk.order.pin, reason, self._batcher.evaluations_wasted - wasted)
        self._show_queue()
        if self._under_way is not None and self._batcher.abandoned:
            self._under_way.broken_off.ask()

    def _forget(self, walk: ActiveWalk) -> bool:
        if walk.timer is not None:
            walk.timer.cancel()
        known = self._active.pop(walk.ticket.id, None) is not None
        if known and not walk.begun:
            self._tell_positions()
        return known

    def _tell_positions(self) -> None:
        """Tell those that have not begun how many of them came before."""
        waiting = [walk for walk in self._active.values() if not walk.begun]
        for position, walk in enumerate(waiting, 1):
            walk.waits_at(position)

    async def _drive(self) -> None:
        while run := self._batcher.schedule():
            self._under_way = self._start(run)
            # told while the next run is under way, which need not wait for it
            self._tell()
            self._settled = await self._settle(self._under_way)
        self._tell()
        self._metrics.idle()

    def _driven(self, driver: asyncio.Task[None]) -> None:
        if driver.cancelled() or (error := driver.exception()) is None:
            return
        # a fault of ours: nobody must wait for ever, and Serve starts another replica in this place
        _log.error("denoiser: the step loop broke: %s", type(error).__name__)
        self._broken = True
        # those of the last runs may have ended, and not been told so
        last = [self._under_way, None if self._settled is None else self._settled.under_way]
        ended = [walk for run in last if run is not None for walk in run.walks]
        for walk in {*self._active.values(), *ended}:
            walk.news.put_nowait(stage_failure(Kind.DENOISER))
        self._active.clear()

    def _start(self, run: Run) -> UnderWay:
        walks = tuple(self._active[ticket.id] for ticket in run.tickets)
        first_of = tuple(walk for walk in walks if not walk.begun)
        started = self._clock()
        for walk in first_of:
            walk.begun = True
        if first_of:
            self._tell_positions()
        pause_s = RISK_PAUSE_S if run.tickets[0].apart else 0.0
        if pause_s:
            # in this order: what it tells last decides whether it stopped the replica
            self._tell()
            walks[0].news.put_nowait(WalkReport(walks[0].track.step, walks[0].track.steps, at_risk=True))
        broken_off = Break()
        tracks = [walk.track for walk in walks]
        outcome = asyncio.get_running_loop().run_in_executor(
            self._thread, advance, walks[0].stage, tracks, broken_off, pause_s
        )
        self._runs += 1
        return UnderWay(run, self._runs - 1, started, pause_s, walks, first_of, broken_off, outcome)

    async def _settle(self, under_way: UnderWay) -> Settled:
        try:
            outcome = await under_way.outcome
        except Exception as error:  # noqa: BLE001 - raised again, as one of ours, to whoever waits for the walks
            outcome = Outcome((error,) * len(under_way.walks))
        run, now = under_way.run, self._clock()
        begun = under_way.started + under_way.pause_s
        seconds = now - begun
        returning: list[Ticket] = []
        moved: list[ActiveWalk] = []
        failed: list[tuple[ActiveWalk, Exception]] = []
        for walk, fault in zip(under_way.walks, outcome.faults, strict=True):
            if walk.ticket.id not in self._active:
                continue
            if fault is not None:
                self._forget(walk)
                failed.append((walk, fault))
                continue
            walk.moved(begun, seconds, run.rows, len(run.tickets))
            walk.shared(seconds, now)
            moved.append(walk)
            if walk.track.done:
                self._forget(walk)
                continue
            track = walk.track
            walk.ticket = walk.ticket.again(track.rows, track.rows_to_come, apart=walk.alone)
            returning.append(walk.ticket)
        answered = [ticket for ticket, fault in zip(run.tickets, outcome.faults, strict=True) if not fault]
        # a run apart holds one walk where others would wait: it says nothing of what will be served
        if answered and not under_way.pause_s:
            self._rate.served(sum(ticket.cost for ticket in answered), seconds)
        self._batcher.done(returning)
        self._under_way = None
        return Settled(under_way, seconds, outcome.together, tuple(moved), tuple(failed))

    def _tell(self) -> None:
        settled = self._settled
        if settled is None:
            return
        for walk in settled.moved:
            walk.tell(self._clock(), self._replica)
        for walk, fault in settled.failed:
            kind = Kind.CONTROLNET if isinstance(fault, ControlNetFault) else Kind.DENOISER
            if not isinstance(fault, RuntimeFault):
                # never its words: they may quote what the caller wrote
                walk.context.run(_log.error, "%s: %s", walk.order.pin, type(fault).__name__)
            walk.news.put_nowait(stage_failure(kind))
        self._settled = None
        self._count(settled)

    def _count(self, settled: Settled) -> None:
        under_way, moved = settled.under_way, settled.moved
        first, run = under_way.walks[0], under_way.run
        pin = first.order.pin
        if settled.together is not None:
            self._metrics.split(pin)
            self._on_run(pin, first.stage, settled.together)
        for walk, fault in settled.failed:
            if isinstance(fault, RuntimeFault):
                walk.context.run(self._on_run, pin, first.stage, fault)
        if moved:
            self._on_run(pin, first.stage, None)
            self._metrics.ran(pin, len(moved), run.rows, run.rows / self._limits.rows, settled.seconds)
        for walk in moved:
            if walk.track.done:
                self._metrics.walked(pin, walk.waited_s, walk.ran_s)
        for walk in under_way.first_of:
            waited = under_way.number - walk.arrival.runs
            self._metrics.began(pin, under_way.started - walk.arrival.seconds, waited, walk.found_free_row)
        self._show_queue()

    def _show_queue(self) -> None:
        self._metrics.waits(self._batcher.waiting, self._batcher.queued)
