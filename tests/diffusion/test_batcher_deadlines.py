"""The estimate behind deadlines, against a server that shares itself out bit by bit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion.batcher_deadlines import work_until_finished
from diffusion.batcher_records import WEIGHTS, Ticket

TICKETS = st.lists(
    st.builds(
        Ticket,
        id=st.just(""),
        tenant=st.sampled_from("ab"),
        signature=st.sampled_from("st"),
        pixels=st.integers(1, 4),
        rows=st.integers(1, 3),
        evaluations=st.integers(1, 9),
        priority=st.sampled_from(tuple(WEIGHTS)),
    ),
    min_size=1,
    max_size=8,
)


def served_until_first_finished(tickets: list[Ticket]) -> float:
    """Let all tickets be served at once, by weight and evenly within, and stop when the first of the list is."""
    left: dict[int, float] = {number: ticket.work for number, ticket in enumerate(tickets)}
    served = 0.0
    while 0 in left:
        classes = {tickets[number].priority for number in left}
        speeds = {}
        for number in left:
            mine = tickets[number]
            flows = {(other.tenant, other.signature) for other in _alike(tickets, left, mine)}
            flow = [other for other in _alike(tickets, left, mine) if _flow(other) == _flow(mine)]
            share = WEIGHTS[mine.priority] / sum(WEIGHTS[name] for name in classes)
            speeds[number] = share / len(flows) / len(flow)
        time = min(left[number] / speed for number, speed in speeds.items())
        served += time
        left = {number: work - time * speeds[number] for number, work in left.items()}
        left = {number: work for number, work in left.items() if work > 1e-9}
    return served


def _alike(tickets: list[Ticket], left: dict[int, float], like: Ticket) -> list[Ticket]:
    return [tickets[number] for number in left if tickets[number].priority == like.priority]


def _flow(ticket: Ticket) -> tuple[str, object]:
    return ticket.tenant, ticket.signature


@given(TICKETS)
def test_estimate_is_that_of_processor_sharing(tickets: list[Ticket]) -> None:
    expected = served_until_first_finished(tickets)
    assert work_until_finished(tickets[0], tickets[1:]) == pytest.approx(expected, rel=1e-6)


def test_a_ticket_alone_takes_its_own_work() -> None:
    assert work_until_finished(Ticket("", "a", "s", pixels=64, rows=2, evaluations=20), []) == 2560
