"""What the step batcher refuses, and how it says so."""

import pickle
from dataclasses import replace
from typing import Any

import pytest

from diffusion.batcher import Limits, StepBatcher, Ticket
from diffusion.errors import DeadlineError, DiffusionError, OverloadedError

LIMITS = Limits(rows=8, pixels=8 * 64, queued=10**9)
PLAIN = Ticket("plain", "ann", "64", pixels=64, rows=1, evaluations=10)


def batcher_of(*tickets: Ticket, limits: Limits = LIMITS) -> StepBatcher:
    batcher = StepBatcher(limits)
    for ticket in tickets:
        batcher.add(ticket)
    return batcher


def many(count: int, like: Ticket, prefix: str = "") -> list[Ticket]:
    return [replace(like, id=f"{prefix}{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": 9}, r"^rows=9: must be a whole number between 1 and 8$"),
        ({"rows": 3, "pixels": 200}, r"^rows=3: must be a whole number between 1 and 2$"),
        ({"rows": 0}, r"^rows=0: "),
        ({"pixels": 513}, r"^pixels=513: must be a whole number between 1 and 512$"),
        ({"pixels": 0}, r"^pixels=0: "),
        ({"evaluations": 0}, r"^evaluations=0: must be a whole number between 1 and 9223372036854775807$"),
        ({"priority": "urgent"}, r"^priority='urgent': must be one of high, normal, low$"),
    ],
)
def test_what_could_never_run_is_refused(wrong: dict[str, Any], message: str) -> None:
    batcher = StepBatcher(LIMITS)
    with pytest.raises(DiffusionError, match=message) as refusal:
        batcher.add(replace(PLAIN, **wrong))
    assert not isinstance(refusal.value, OverloadedError | DeadlineError)
    assert (batcher.refused, batcher.admitted, batcher.waiting) == (1, 0, 0)


@pytest.mark.parametrize(("rows", "pixels", "queued"), [(0, 1, 1), (1, 0, 1), (2, 8, 7)])
def test_limits_under_which_nothing_could_run(rows: int, pixels: int, queued: int) -> None:
    with pytest.raises(DiffusionError, match=r"^limits\."):
        Limits(rows, pixels, queued)


def test_admission_is_bounded_by_the_work_that_waits() -> None:
    batcher = batcher_of(*many(3, PLAIN), limits=replace(LIMITS, queued=4 * 640))
    assert batcher.queued == 3 * 640
    batcher.add(replace(PLAIN, id="fits"))
    with pytest.raises(
        OverloadedError, match=r"^queued=2624: must be at most 2560, in rows times latent pixels$"
    ) as refusal:
        batcher.add(replace(PLAIN, id="too much", evaluations=1))
    assert pickle.loads(pickle.dumps(refusal.value)).field == "queued"
    batcher.done(ticket.again() for ticket in batcher.schedule().tickets)
    batcher.add(replace(PLAIN, id="later", evaluations=1))
    batcher.cancel("fits")
    assert batcher.queued == 3 * 576 + 64


def test_a_ticket_over_the_bound_is_admitted_where_nothing_else_waits() -> None:
    batcher = StepBatcher(replace(LIMITS, queued=1000))
    large = replace(PLAIN, id="large", evaluations=1000)
    assert batcher.work_before(large) == 0
    batcher.add(large)
    with pytest.raises(OverloadedError):
        batcher.add(PLAIN)
    assert batcher.work_before(PLAIN) == large.work - (1000 - PLAIN.work)
    assert batcher.work_before(replace(large, id="other")) == large.work


def test_the_pictures_of_one_request_do_not_refuse_each_other() -> None:
    batcher = StepBatcher(replace(LIMITS, queued=1000))
    for picture in many(5, replace(PLAIN, request="five")):
        batcher.add(picture)
    with pytest.raises(OverloadedError):
        batcher.add(replace(PLAIN, id="other", evaluations=1))
    for _ in range(2):
        batcher.done(ticket.again() for ticket in batcher.schedule().tickets)
    for number in range(5):
        batcher.cancel(f"{number}")
    assert batcher.queued == 0
    batcher.add(replace(PLAIN, id="other", evaluations=1))
    with pytest.raises(OverloadedError):
        batcher.add(replace(PLAIN, id="0", request="five", evaluations=20))


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    batcher = batcher_of(*many(2, PLAIN))
    tight = replace(PLAIN, id="tight", deadline=102.9)
    # three alike share 640 a second: each needs three seconds
    with pytest.raises(DeadlineError, match=r"^deadline=102.9: must be at least 103.000 with what waits already$"):
        batcher.add(tight, now=100.0, rate=640.0)
    batcher.add(replace(tight, deadline=103.0), now=100.0, rate=640.0)
    assert (batcher.refused, batcher.admitted) == (1, 3)


def test_without_a_rate_only_a_deadline_that_has_passed_is_refused() -> None:
    batcher = batcher_of(replace(PLAIN, deadline=0.0))
    with pytest.raises(DeadlineError, match="at least 100.000"):
        batcher.add(replace(PLAIN, id="late", deadline=99.0), now=100.0)
    with pytest.raises(DeadlineError, match="nan"):
        batcher.add(replace(PLAIN, id="never", deadline=float("nan")), now=100.0)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(DiffusionError, match=r"^rate=0.0: must be above 0$"):
        StepBatcher(LIMITS).add(replace(PLAIN, deadline=1.0), rate=0.0)
