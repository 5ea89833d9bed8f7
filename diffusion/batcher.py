"""Which rows share the next run of the denoiser: a policy without clock, threads or I/O."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from diffusion.batcher_deadlines import work_until_finished
from diffusion.batcher_lanes import Draft, Lane
from diffusion.batcher_records import WEIGHTS, Limits, Run, Ticket
from diffusion.errors import DeadlineError, DiffusionError, OverloadedError, require_integer

__all__ = ["Limits", "Run", "StepBatcher", "Ticket"]


class StepBatcher:
    """Choose which tickets share the next run: `add`, then `schedule`, run and `done` in turn; `cancel` at any time.

    A run holds one signature, within `Limits.rows` and `Limits.pixels` (the quantum Q below), and a ticket's rows stay
    together. Classes share the runs by weighted round robin: per round a class leads as many runs as its weight W, the
    highest class that has any left goes first, and a new round starts when none that waits has. So a class that waits
    leads again after at most twice the weights of the others. Within a class goes deficit round robin over (tenant,
    signature), see `Lane`; spare room goes to any class of the run's signature, the highest first.

    - Fairness: the costs served to two flows of a class, while both had tickets left over after every run, differ by
      less than 6 Q over any time, and by less than 3 Q counted from when both were new.
    - No starvation: a ticket with cost w ahead of it in its flow, its own included, waits at most
      (ceil(L / W) + 1) * sum of all W runs, L = (ceil(w / Q) + 3) * sum over its class's flows of floor((2 Q - 1) / u),
      where u is the least cost of a ticket in that flow.
    - `schedule` takes time linear in flows and rows, however many tickets wait in a flow.

    One thread or event loop at a time may call it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lanes = {priority: Lane(limits.pixels) for priority in WEIGHTS}
        self._tickets: dict[str, Ticket] = {}
        self._running: dict[str, Ticket] = {}
        self._spent: dict[str, int] = {}
        self._queued = 0
        self._queued_by: Counter[str] = Counter()
        self._admitted = 0
        self._refused = 0
        self._cancelled = 0
        self._runs = 0
        self._rows = 0
        self._evaluations = 0
        self._wasted = 0

    def add(self, ticket: Ticket, now: float = 0.0, rate: float | None = None, *, admitted: bool = False) -> None:
        """Admit a ticket; it can be in the next run that is scheduled.

        One that was `admitted` before, here or elsewhere, is refused neither for its deadline nor for what waits.

        `now` is in seconds on the clock of the ticket's deadline. `rate` is what was measured to be served, in rows
        times latent pixels per second; without it no deadline is looked at, but one that has passed.

        Raises:
            DiffusionError: the ticket could never run, or its id is taken.
            DeadlineError: with its fair share of `rate` it would finish after its deadline.
            OverloadedError: the work that waits would pass `Limits.queued`, and some of it is another request's.
        """
        try:
            self._check(ticket)
            if not admitted:
                self._check_deadline(ticket, now, rate)
                self._check_queue(ticket)
        except DiffusionError:
            self._refused += 1
            raise
        self._admitted += 1
        self._tickets[ticket.id] = ticket
        self._spent[ticket.id] = 0
        self._queue(ticket, ticket.work)
        self._lanes[ticket.priority].enter(ticket)

    def schedule(self) -> Run:
        """Choose the next run; it is under way until `done`, unless it is empty."""
        assert not self._running, "a run is under way"
        lane = self._next_lane()
        if lane is None:
            return Run()
        draft = Draft(self._limits)
        leader = lane.lead(draft)
        lane.credit -= 1
        for other in () if leader.apart else self._lanes.values():
            other.fill(draft, leader.signature)
        run = draft.run()
        self._running = {ticket.id: ticket for ticket in run.tickets}
        for ticket in run.tickets:
            self._spent[ticket.id] += 1
        self._runs += 1
        self._rows += run.rows
        self._evaluations += len(run.tickets)
        return run

    def done(self, returning: Iterable[Ticket]) -> None:
        """End the run under way: tickets of it that return wait again, cancelled ones do not, the others have finished.

        What returns is `ticket.again(rows)`; after a run that failed it may be the ticket itself.

        Raises:
            DiffusionError: a ticket that returns was not in the run, or could not run as it is; nothing has changed.
        """
        back: dict[str, Ticket] = {}
        for ticket in returning:
            self._check_returning(ticket, back)
            back[ticket.id] = ticket
        for ticket_id, ran in self._running.items():
            lane = self._lanes[ran.priority]
            returned = back.get(ticket_id)
            if ticket_id not in self._tickets:
                lane.leave(ran)
            elif returned is None:
                lane.leave(ran)
                self._forget(ticket_id)
            else:
                self._queue(ran, returned.work - ran.work)
                self._tickets[ticket_id] = returned
                lane.wait(returned)
        self._running = {}

    def cancel(self, ticket_id: str) -> bool:
        """Never run a ticket again, and say whether there was one; what the run under way answers it is dropped."""
        if ticket_id not in self._tickets:
            return False
        self._cancelled += 1
        self._wasted += self._spent[ticket_id]
        ticket = self._forget(ticket_id)
        if ticket_id not in self._running:
            self._lanes[ticket.priority].leave(ticket)
        return True

    @property
    def abandoned(self) -> bool:
        """Whether a run is under way in which every ticket was cancelled, so that it can be broken off."""
        return bool(self._running) and not any(ticket_id in self._tickets for ticket_id in self._running)

    @property
    def waiting(self) -> int:
        """How many tickets wait for a run."""
        return len(self._tickets) - len(self._tickets.keys() & self._running.keys())

    @property
    def queued(self) -> int:
        """The work of all tickets still to run, in rows times latent pixels: what `Limits.queued` bounds."""
        return self._queued

    def work_before(self, ticket: Ticket) -> int:
        """How much work has to be served before the bound lets `ticket` in, in rows times latent pixels."""
        others = self._queued - self._queued_by[ticket.owner]
        return max(0, min(others, self._queued + ticket.work - self._limits.queued))

    @property
    def admitted(self) -> int:
        """How many tickets were admitted."""
        return self._admitted

    @property
    def refused(self) -> int:
        """How many tickets were refused."""
        return self._refused

    @property
    def cancelled(self) -> int:
        """How many tickets were cancelled."""
        return self._cancelled

    @property
    def runs(self) -> int:
        """How many runs were scheduled."""
        return self._runs

    @property
    def rows(self) -> int:
        """How many rows all runs had together."""
        return self._rows

    @property
    def evaluations(self) -> int:
        """How many evaluations were scheduled, one for each ticket of a run."""
        return self._evaluations

    @property
    def evaluations_wasted(self) -> int:
        """How many of these were for tickets that were cancelled, then or later."""
        return self._wasted

    def _next_lane(self) -> Lane | None:
        waiting = [
            (lane, weight) for lane, weight in zip(self._lanes.values(), WEIGHTS.values(), strict=True) if lane.waits
        ]
        if waiting and not any(lane.credit for lane, _ in waiting):
            for lane, weight in waiting:
                lane.credit = weight
        return next((lane for lane, _ in waiting if lane.credit), None)

    def _check(self, ticket: Ticket) -> None:
        self._limits.check(ticket)
        if ticket.id in self._tickets or ticket.id in self._running:
            raise DiffusionError("id", ticket.id, "of no other ticket")

    def _check_deadline(self, ticket: Ticket, now: float, rate: float | None) -> None:
        if ticket.deadline is None:
            return
        earliest = now
        if rate is not None:
            if not rate > 0:
                raise DiffusionError("rate", rate, "above 0")
            earliest += work_until_finished(ticket, self._tickets.values()) / rate
        # a deadline of NaN is met at no time
        if not earliest <= ticket.deadline:
            raise DeadlineError("deadline", ticket.deadline, f"at least {earliest:.3f} with what waits already")

    def _check_queue(self, ticket: Ticket) -> None:
        queued = self._queued + ticket.work
        # a request larger than the whole bound would otherwise be told to try again later for ever
        if queued > self._limits.queued and self._queued > self._queued_by[ticket.owner]:
            raise OverloadedError("queued", queued, f"at most {self._limits.queued}, in rows times latent pixels")

    def _check_returning(self, ticket: Ticket, back: dict[str, Ticket]) -> None:
        ran = self._running.get(ticket.id)
        if ran is None or ticket.id in back:
            raise DiffusionError("id", ticket.id, "of a ticket in the run under way, once")
        kept = {name: getattr(ran, name) for name in ("rows", "evaluations", "rows_to_come", "apart")}
        if replace(ticket, **kept) != ran:
            raise DiffusionError("ticket", ticket, f"{ran} but for rows, evaluations and apart")
        self._limits.check_rows(ticket)
        require_integer("evaluations", ticket.evaluations, 1, ran.evaluations)

    def _forget(self, ticket_id: str) -> Ticket:
        ticket = self._tickets.pop(ticket_id)
        del self._spent[ticket_id]
        self._queue(ticket, -ticket.work)
        return ticket

    def _queue(self, ticket: Ticket, work: int) -> None:
        self._queued += work
        self._queued_by[ticket.owner] += work
        if not self._queued_by[ticket.owner]:
            del self._queued_by[ticket.owner]
