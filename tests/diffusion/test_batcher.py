"""The step batcher's rules, one by one."""

import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from diffusion.batcher import Limits, Run, StepBatcher, Ticket
from diffusion.batcher_records import WEIGHTS, Priority
from diffusion.errors import DiffusionError

LIMITS = Limits(rows=8, pixels=8 * 64, queued=10**9)
PLAIN = Ticket("plain", "ann", "64", pixels=64, rows=1, evaluations=10)
PRIORITIES: tuple[Priority, ...] = tuple(WEIGHTS)


def batcher_of(*tickets: Ticket, limits: Limits = LIMITS) -> StepBatcher:
    batcher = StepBatcher(limits)
    for ticket in tickets:
        batcher.add(ticket)
    return batcher


def many(count: int, like: Ticket, prefix: str = "") -> list[Ticket]:
    return [replace(like, id=f"{prefix}{number}") for number in range(count)]


def ids(run: Run) -> list[str]:
    return [ticket.id for ticket in run.tickets]


def step(batcher: StepBatcher) -> Run:
    """Schedule a run and let all of it return."""
    run = batcher.schedule()
    batcher.done(ticket.again() for ticket in run.tickets)
    return run


def test_nothing_waits_nothing_runs() -> None:
    batcher = StepBatcher(LIMITS)
    assert not batcher.schedule()
    assert (batcher.runs, batcher.rows, batcher.waiting) == (0, 0, 0)


def test_tickets_of_one_signature_share_a_run_whatever_else_differs() -> None:
    tickets = [
        PLAIN,
        replace(PLAIN, id="guided", rows=2),
        replace(PLAIN, id="other tenant", tenant="ben", evaluations=50),
        replace(PLAIN, id="urgent", priority="high", deadline=3.0),
    ]
    assert sorted(ids(batcher_of(*tickets).schedule())) == sorted(ticket.id for ticket in tickets)


def test_other_signatures_run_apart_and_in_turn() -> None:
    batcher = batcher_of(PLAIN, replace(PLAIN, id="long prompt", signature="64, 154 tokens"))
    assert [ids(step(batcher)) for _ in range(4)] == [["plain"], ["long prompt"]] * 2


def test_a_run_is_bounded_by_rows() -> None:
    assert ids(batcher_of(*many(11, replace(PLAIN, pixels=1))).schedule()) == list("01234567")


def test_a_run_is_bounded_by_latent_pixels() -> None:
    assert ids(batcher_of(*many(11, replace(PLAIN, pixels=200))).schedule()) == ["0", "1"]


def test_rows_of_one_evaluation_stay_together() -> None:
    run = batcher_of(*many(4, replace(PLAIN, pixels=2, rows=3))).schedule()
    assert (ids(run), run.rows, run.cost) == (["0", "1"], 6, 12)


def test_a_ticket_returns_with_other_rows() -> None:
    batcher = batcher_of(replace(PLAIN, rows=2))
    batcher.done([batcher.schedule().tickets[0].again(rows=1)])
    run = batcher.schedule()
    assert (run.rows, run.tickets[0].evaluations) == (1, 9)


def test_what_does_not_return_has_finished() -> None:
    batcher = batcher_of(PLAIN)
    batcher.schedule()
    batcher.done([])
    assert (batcher.waiting, batcher.queued) == (0, 0)
    assert not batcher.schedule()
    assert not batcher.cancel("plain")


def test_an_announced_number_of_evaluations_may_be_passed() -> None:
    batcher = batcher_of(replace(PLAIN, evaluations=1))
    assert step(batcher).tickets == step(batcher).tickets


def test_a_ticket_that_arrives_during_a_run_goes_before_those_that_return() -> None:
    batcher = batcher_of(*many(8, PLAIN))
    run = batcher.schedule()
    batcher.add(replace(PLAIN, id="new"))
    batcher.done(ticket.again() for ticket in run.tickets)
    assert ids(batcher.schedule()) == ["new", *"0123456"]


def test_short_and_long_requests_advance_alike() -> None:
    batcher = batcher_of(*many(12, replace(PLAIN, evaluations=50)), replace(PLAIN, id="short", evaluations=4))
    runs = [ids(step(batcher)) for _ in range(13)]
    assert set(Counter(name for run in runs for name in run).values()) == {8}


def test_a_tenant_alone_fills_every_run() -> None:
    batcher = batcher_of(*many(20, PLAIN))
    assert [step(batcher).rows for _ in range(50)] == [8] * 50


def test_two_tenants_of_one_signature_share_every_run_evenly() -> None:
    batcher = batcher_of(*many(40, PLAIN, "a"), *many(20, replace(PLAIN, tenant="ben"), "b"))
    for _ in range(50):
        assert Counter(name[0] for name in ids(step(batcher))) == {"a": 4, "b": 4}


def test_two_tenants_of_two_signatures_pay_alike_for_unlike_pictures() -> None:
    large = replace(PLAIN, tenant="ben", signature="256", pixels=256, rows=2)
    batcher = batcher_of(*many(20, PLAIN, "a"), *many(20, large, "b"))
    runs = [step(batcher) for _ in range(20)]
    assert [run.cost for run in runs] == [512] * 20
    assert Counter(ids(run)[0][0] for run in runs) == {"a": 10, "b": 10}


def test_room_on_credit_is_paid_back() -> None:
    """Ann has spare rows beside the light tenants; Ben, whose signature runs apart, gets as much as she does."""
    lights = [replace(PLAIN, id=f"light {name}", tenant=name) for name in "xyz"]
    ben = replace(PLAIN, tenant="ben", signature="apart")
    batcher = batcher_of(*lights, *many(20, PLAIN, "a"), *many(20, ben, "b"))
    rows = Counter(name[0] for _ in range(400) for name in ids(step(batcher)))
    assert abs(rows["a"] - rows["b"]) < 3 * 8
    assert rows["l"] > 3 * 150


def test_credit_ends_while_another_flow_of_the_class_could_pay() -> None:
    """Ann rides beside the high class: a quantum on credit, and what let Ben pay for his next, but no more."""
    high = replace(PLAIN, id="high", tenant="hal", priority="high")
    ben = replace(PLAIN, tenant="ben", signature="apart")
    batcher = batcher_of(high, *many(20, PLAIN, "a"), *many(20, ben, "b"))
    rows = [step(batcher).rows - 1 for _ in range(WEIGHTS["high"])]
    assert rows == [7, 2] + [0] * 14


def test_flows_take_turns_at_the_room_that_is_left() -> None:
    tickets = [replace(PLAIN, id="high", tenant="hal", priority="high"), *many(4, PLAIN, "a")]
    batcher = batcher_of(*tickets, *many(4, replace(PLAIN, tenant="ben"), "b"), limits=replace(LIMITS, rows=2))
    assert [ids(step(batcher))[1][0] for _ in range(6)] == list("ababab")


@pytest.mark.parametrize("pixels", [1, 2])
@pytest.mark.parametrize("flows", [2, 5, 9])
def test_flows_that_can_pay_lead_in_turn(flows: int, pixels: int) -> None:
    """Of one pixel a row a flow pays for two runs with its quantum, yet it lets the others lead in between."""
    batcher = StepBatcher(Limits(rows=4, pixels=8, queued=10**9))
    for number in range(2 * flows):
        batcher.add(Ticket(str(number), str(number % flows), number % flows, pixels, rows=4, evaluations=1000))
    order = []
    for _ in range(4 * flows):
        run = batcher.schedule()
        order += [ticket.tenant for ticket in run.tickets]
        batcher.done(run.tickets)
    assert order == [str(number) for number in range(flows)] * 4


def test_a_flow_of_one_ticket_gets_its_share() -> None:
    light = replace(PLAIN, id="light", tenant="light", signature="apart", evaluations=100)
    batcher = batcher_of(*many(20, replace(PLAIN, evaluations=100), "a"), light, limits=replace(LIMITS, pixels=64 * 64))
    served = {"heavy": 0, "light": 0}
    for _ in range(90):
        run = step(batcher)
        served["light" if run.tickets[0] == replace(light, evaluations=run.tickets[0].evaluations) else "heavy"] += (
            run.cost
        )
        assert abs(served["heavy"] - served["light"]) <= 8 * 64
    assert min(served.values()) > 30 * 64


def test_classes_lead_by_weight_and_the_highest_first() -> None:
    tickets = [replace(PLAIN, id=priority, signature=priority, priority=priority) for priority in PRIORITIES]
    batcher = batcher_of(*tickets)
    leaders = [ids(step(batcher))[0] for _ in range(42)]
    assert leaders == [priority for priority in PRIORITIES for _ in range(WEIGHTS[priority])] * 2


def test_a_higher_class_rides_first_and_a_lower_one_takes_the_room_that_is_left() -> None:
    batcher = batcher_of(
        *many(9, replace(PLAIN, priority="low"), "l"),
        *many(3, replace(PLAIN, priority="normal"), "n"),
        *many(2, replace(PLAIN, priority="high"), "h"),
    )
    assert ids(batcher.schedule()) == ["h0", "h1", "n0", "n1", "n2", "l0", "l1", "l2"]


def test_a_cancelled_ticket_does_not_run() -> None:
    batcher = batcher_of(*many(3, PLAIN))
    assert batcher.cancel("1")
    assert not batcher.cancel("1")
    assert ids(batcher.schedule()) == ["0", "2"]


def test_what_the_run_under_way_answers_a_cancelled_ticket_is_dropped() -> None:
    batcher = batcher_of(*many(2, PLAIN))
    run = batcher.schedule()
    assert batcher.cancel("0")
    assert (batcher.waiting, batcher.abandoned) == (0, False)
    batcher.done(ticket.again() for ticket in run.tickets)
    assert ids(batcher.schedule()) == ["1"]


def test_a_run_is_abandoned_once_all_its_tickets_are_cancelled() -> None:
    batcher = batcher_of(*many(2, PLAIN), replace(PLAIN, id="waits", signature="apart"))
    assert not batcher.abandoned
    batcher.schedule()
    batcher.cancel("0")
    batcher.cancel("1")
    assert batcher.abandoned
    batcher.done([])
    assert not batcher.abandoned


def test_an_id_is_free_again_after_the_run() -> None:
    batcher = batcher_of(PLAIN)
    batcher.schedule()
    batcher.cancel("plain")
    with pytest.raises(DiffusionError, match="^id='plain': must be of no other ticket$"):
        batcher.add(PLAIN)
    batcher.done([])
    batcher.add(PLAIN)


def test_a_failed_run_can_be_repeated() -> None:
    batcher = batcher_of(*many(3, PLAIN))
    run = batcher.schedule()
    batcher.done(run.tickets)
    assert batcher.schedule() == run


def test_one_run_at_a_time() -> None:
    batcher = batcher_of(*many(2, PLAIN))
    batcher.schedule()
    with pytest.raises(AssertionError, match="under way"):
        batcher.schedule()


@pytest.mark.parametrize(
    "wrong", [{"id": "stranger"}, {"tenant": "ben"}, {"pixels": 65}, {"rows": 9}, {"evaluations": 11}]
)
def test_what_returns_must_have_run(wrong: dict[str, Any]) -> None:
    batcher = batcher_of(*many(2, PLAIN))
    first, second = batcher.schedule().tickets
    with pytest.raises(DiffusionError):
        batcher.done([first.again(), replace(second, **wrong)])
    with pytest.raises(DiffusionError, match="once"):
        batcher.done([first.again(), first.again()])
    batcher.done([first.again(), second.again()])
    assert batcher.waiting == 2


def test_counters() -> None:
    batcher = batcher_of(*many(3, replace(PLAIN, rows=3)))
    step(batcher)
    run = batcher.schedule()
    assert ids(run) == ["2", "0"]
    assert (batcher.admitted, batcher.waiting, batcher.runs, batcher.rows, batcher.evaluations) == (3, 1, 2, 12, 4)
    assert batcher.queued == 3 * 64 * (9 + 9 + 10)
    batcher.cancel("0")
    batcher.cancel("1")
    assert (batcher.cancelled, batcher.evaluations_wasted, batcher.waiting) == (2, 2 + 1, 0)
    batcher.done([run.tickets[0].again()])
    assert (batcher.waiting, batcher.queued) == (1, 3 * 64 * 9)


def test_tenants_that_have_gone_leave_nothing_behind() -> None:
    batcher = StepBatcher(LIMITS)
    empty = len(pickle.dumps(batcher))
    for number in range(300):
        batcher.add(replace(PLAIN, id=f"finishes {number}", tenant=f"first {number}"))
        batcher.add(replace(PLAIN, id=f"cancelled {number}", tenant=f"second {number}", signature=number))
        batcher.cancel(f"cancelled {number}")
        batcher.schedule()
        batcher.done([])
    assert len(pickle.dumps(batcher)) < empty + 100
