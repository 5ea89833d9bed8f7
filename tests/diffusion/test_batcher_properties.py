"""What the step batcher promises, whatever arrives, changes and goes."""

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from diffusion.batcher import Limits, Run, StepBatcher, Ticket
from diffusion.batcher_records import WEIGHTS, Priority
from diffusion.errors import OverloadedError

LIMITS = Limits(rows=4, pixels=8, queued=150)
TENANTS = "abc"
# the latent pixels of a row by signature: what bounds a run is the rows, both, the pixels
SIGNATURES = {"small": 1, "small, long prompt": 1, "medium": 2, "large": 4}
PRIORITIES: tuple[Priority, ...] = tuple(WEIGHTS)


def most_rows(signature: object, limits: Limits = LIMITS) -> int:
    return min(limits.rows, limits.pixels // SIGNATURES[str(signature)])


def longest_wait(limits: Limits, priority: Priority, ahead: int, flows: dict[tuple[str, str], int]) -> int:
    """How many runs a ticket waits at most, as `StepBatcher` says.

    `ahead` is the cost in its flow up to its own, `flows` the least cost of a ticket by flow of its class.
    """
    rounds = -(-ahead // limits.pixels) + 3
    leads = rounds * sum((2 * limits.pixels - 1) // least for least in flows.values())
    return (-(-leads // WEIGHTS[priority]) + 1) * sum(WEIGHTS.values())


class Batching(RuleBasedStateMachine):
    """A deployment in which anything happens, and the books that it keeps of it."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.batcher = StepBatcher(LIMITS)
        self.numbers = count()
        self.run: Run | None = None
        self.alive: dict[str, Ticket] = {}
        self.cancelled: set[str] = set()
        self.planned: dict[str, int] = {}
        self.ran: Counter[str] = Counter()
        self.waited: dict[str, int] = {}
        self.overloaded = 0

    @rule(
        target=ids,
        tenant=st.sampled_from(TENANTS),
        signature=st.sampled_from(tuple(SIGNATURES)),
        share=st.floats(0, 1),
        evaluations=st.integers(1, 6),
        priority=st.sampled_from(PRIORITIES),
    )
    def add(self, tenant: str, signature: str, share: float, evaluations: int, priority: Priority) -> str:
        rows = 1 + round(share * (most_rows(signature) - 1))
        name = f"{next(self.numbers)}"
        ticket = Ticket(name, tenant, signature, SIGNATURES[signature], rows, evaluations, priority)
        if self.work() and self.work() + ticket.work > LIMITS.queued:
            self.overloaded += 1
            with pytest.raises(OverloadedError):
                self.batcher.add(ticket)
            return name
        self.batcher.add(ticket)
        self.alive[name] = ticket
        self.planned[name] = evaluations
        self.waited[name] = 0
        return name

    @precondition(lambda self: self.run is None)
    @rule()
    def schedule(self) -> None:
        run = self.batcher.schedule()
        assert bool(run) == bool(self.alive), "a run is empty only if nothing waits"
        names = [ticket.id for ticket in run.tickets]
        assert len(set(names)) == len(names), "no ticket twice"
        assert all(self.alive.get(ticket.id) == ticket for ticket in run.tickets), "only what lives, as it returned"
        assert len({ticket.signature for ticket in run.tickets}) <= 1, "one signature"
        assert run.rows <= LIMITS.rows
        assert run.cost <= LIMITS.pixels
        self.ran.update(names)
        for name in self.waited:
            self.waited[name] = 0 if name in names else self.waited[name] + 1
        if run:
            self.run = run
        self.check_waits()

    @precondition(lambda self: self.run is not None)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        assert self.run is not None
        returning = []
        for ticket in self.run.tickets:
            rows = data.draw(st.integers(1, most_rows(ticket.signature)))
            back = ticket.again(rows)
            if ticket.id in self.cancelled:
                returning.append(back)
            elif ticket.evaluations > 1:
                returning.append(back)
                self.alive[ticket.id] = back
            else:
                del self.alive[ticket.id]
                del self.waited[ticket.id]
        self.batcher.done(returning)
        self.run = None

    @rule(name=consumes(ids))
    def cancel(self, name: str) -> None:
        lived = name in self.alive
        assert self.batcher.cancel(name) == lived
        if lived:
            self.cancelled.add(name)
            del self.alive[name]
            del self.waited[name]

    def check_waits(self) -> None:
        flows = {(tenant, signature): pixels for tenant in TENANTS for signature, pixels in SIGNATURES.items()}
        for name, runs in self.waited.items():
            assert runs <= longest_wait(LIMITS, self.alive[name].priority, LIMITS.queued, flows)

    def work(self) -> int:
        return sum(ticket.work for ticket in self.alive.values())

    @invariant()
    def books_agree(self) -> None:
        running = {ticket.id for ticket in self.run.tickets} if self.run is not None else set()
        assert self.batcher.waiting == len(self.alive.keys() - running)
        assert self.batcher.queued == self.work()
        assert self.batcher.admitted == len(self.planned)
        assert self.batcher.refused == self.overloaded
        assert self.batcher.cancelled == len(self.cancelled)
        assert self.batcher.evaluations == self.ran.total()
        assert self.batcher.evaluations_wasted == sum(self.ran[name] for name in self.cancelled)
        assert self.batcher.abandoned == (bool(running) and running <= self.cancelled)

    def teardown(self) -> None:
        """Let everything finish: each ticket ran as often as it was to, and a cancelled one not more often."""
        while self.run is not None or self.alive:
            if self.run is None:
                self.schedule()
            assert self.run is not None
            for ticket in self.run.tickets:
                if ticket.id in self.alive:
                    self.alive[ticket.id] = ticket.again()
            over = [ticket.id for ticket in self.run.tickets if ticket.evaluations == 1]
            self.batcher.done(ticket.again() for ticket in self.run.tickets if ticket.id not in over)
            for name in over:
                self.alive.pop(name, None)
                self.waited.pop(name, None)
            self.run = None
        assert not self.batcher.schedule()
        assert self.batcher.queued == 0
        for name, evaluations in self.planned.items():
            if name in self.cancelled:
                assert self.ran[name] <= evaluations
            else:
                assert self.ran[name] == evaluations


TestBatching = Batching.TestCase
TestBatching.settings = settings(max_examples=100, stateful_step_count=50)


def advance(batcher: StepBatcher, data: st.DataObject, limits: Limits = LIMITS) -> Run:
    """Run once; each ticket returns, with as many rows as it likes."""
    run = batcher.schedule()
    batcher.done(ticket.again(data.draw(st.integers(1, most_rows(ticket.signature, limits)))) for ticket in run.tickets)
    return run


SIGNATURE = st.sampled_from(tuple(SIGNATURES))


@st.composite
def passers_by(draw: st.DrawFn, least: int = 0, most: int = 6) -> list[Ticket]:
    """Other tenants' tickets, of any class and signature."""
    tickets = []
    for number in range(draw(st.integers(least, most))):
        signature = draw(SIGNATURE)
        rows = draw(st.integers(1, most_rows(signature)))
        tenant, priority = draw(st.sampled_from("pq")), draw(st.sampled_from(PRIORITIES))
        tickets.append(Ticket(f"by {number}", tenant, signature, SIGNATURES[signature], rows, 1000, priority))
    return tickets


@settings(max_examples=80)
@given(st.data(), SIGNATURE, SIGNATURE, passers_by(), st.sampled_from(PRIORITIES))
def test_two_backlogged_tenants_are_served_alike(
    data: st.DataObject, first: str, second: str, others: list[Ticket], priority: Priority
) -> None:
    limits = replace(LIMITS, queued=10**9)
    batcher = StepBatcher(limits)
    for tenant, signature in (("ann", first), ("ben", second)):
        for number in range(limits.rows + 1):  # one is left over, whatever a run takes
            rows = data.draw(st.integers(1, most_rows(signature)))
            name = f"{tenant} {number}"
            batcher.add(Ticket(name, tenant, signature, SIGNATURES[signature], rows, 1000, priority))
    coming = iter(others)
    served: Counter[str] = Counter()
    ahead = [0]
    for _ in range(data.draw(st.integers(1, 80))):
        if data.draw(st.booleans()) and (other := next(coming, None)) is not None:
            batcher.add(other)
        for ticket in advance(batcher, data).tickets:
            served[ticket.tenant] += ticket.cost
        ahead.append(served["ann"] - served["ben"])
        assert abs(ahead[-1]) < 3 * limits.pixels
        assert max(ahead) - min(ahead) < 6 * limits.pixels


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from(PRIORITIES)), min_size=1, max_size=12))
def test_a_run_of_the_only_signature_is_never_left_with_room(waiting: list[tuple[str, Priority]]) -> None:
    batcher = StepBatcher(LIMITS)
    for number, (tenant, priority) in enumerate(waiting):
        batcher.add(Ticket(str(number), tenant, "small", 1, 1, 12, priority))
    for _ in range(60):
        run = batcher.schedule()
        assert run.rows == min(LIMITS.rows, len(waiting))
        batcher.done(run.tickets)


@st.composite
def standing(draw: st.DrawFn, limits: Limits) -> list[Ticket]:
    """Tickets that never finish: in every class one or two flows of one to three."""
    flows = st.sets(st.tuples(st.sampled_from(TENANTS), SIGNATURE), min_size=1, max_size=2)
    return [
        Ticket(
            f"{priority} {tenant} {signature} {number}",
            tenant,
            signature,
            SIGNATURES[signature],
            draw(st.integers(1, most_rows(signature, limits))),
            10**6,
            priority,
        )
        for priority in PRIORITIES
        for tenant, signature in draw(flows)
        for number in range(draw(st.integers(1, 3)))
    ]


def bounds_of(tickets: list[Ticket], limits: Limits) -> dict[str, int]:
    """How many runs each ticket waits at most, behind all others of its flow."""
    bounds = {}
    for mine in tickets:
        alike = [ticket for ticket in tickets if ticket.priority == mine.priority]
        flows: dict[tuple[str, str], list[int]] = {}
        for ticket in alike:
            flows.setdefault((ticket.tenant, str(ticket.signature)), []).append(ticket.cost)
        ahead = sum(flows[mine.tenant, str(mine.signature)])
        least = {flow: min(costs) for flow, costs in flows.items()}
        bounds[mine.id] = longest_wait(limits, mine.priority, ahead, least)
    return bounds


@settings(max_examples=10)
@given(standing(Limits(rows=2, pixels=4, queued=10**9)))
def test_nothing_starves(tickets: list[Ticket]) -> None:
    limits = Limits(rows=2, pixels=4, queued=10**9)
    batcher = StepBatcher(limits)
    for ticket in tickets:
        batcher.add(ticket)
    bounds = bounds_of(tickets, limits)
    since = dict.fromkeys(bounds, 0)
    for number in range(1, max(bounds.values()) + 2):
        run = batcher.schedule()
        since.update((ticket.id, number) for ticket in run.tickets)
        batcher.done(run.tickets)
        assert all(number - since[name] <= bound for name, bound in bounds.items())


@settings(max_examples=60)
@given(passers_by(least=1, most=18))
def test_a_class_that_waits_leads_again_after_twice_the_weights_of_the_others(tickets: list[Ticket]) -> None:
    batcher = StepBatcher(replace(LIMITS, queued=10**9))
    for ticket in tickets:
        # no two classes share a signature: who runs, leads
        batcher.add(replace(ticket, signature=(ticket.priority, ticket.signature)))
    classes = {ticket.priority for ticket in tickets}
    waited: Counter[Priority] = Counter()
    for _ in range(200):
        run = batcher.schedule()
        for priority in classes:
            waited[priority] = 0 if run.tickets[0].priority == priority else waited[priority] + 1
            assert waited[priority] <= 2 * sum(WEIGHTS[other] for other in classes - {priority})
        batcher.done(run.tickets)
