"""What a key has left, by a clock that stands still until it is moved."""

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import KeyLimitError, PermissionDeniedError
from services.keys.allowance import Allowance
from services.keys.settings import KeyLimits


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(allowance: Allowance, pictures: int = 1) -> bool:
    try:
        with allowance.admitted(pictures):
            return True
    except KeyLimitError:
        return False


def test_without_limits_everything_is_admitted() -> None:
    allowance = Allowance(KeyLimits(), Clock())
    assert all(taken(allowance, 10**6) for _ in range(100))


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    allowance = Allowance(KeyLimits(pictures_per_minute=30, burst=3), clock)
    assert [taken(allowance) for _ in range(4)] == [True, True, True, False]
    clock.now += 1.9
    assert not taken(allowance)
    clock.now += 0.2
    assert [taken(allowance), taken(allowance)] == [True, False]
    clock.now += 3600
    assert [taken(allowance) for _ in range(4)] == [True, True, True, False], "a pause gives no more than the burst"


@pytest.mark.parametrize(("rate", "burst"), [(6.0, 6), (6.9, 6), (0.5, 1)])
def test_without_a_burst_a_minutes_pictures_may_come_at_once(rate: float, burst: int) -> None:
    allowance = Allowance(KeyLimits(pictures_per_minute=rate), Clock())
    assert [taken(allowance) for _ in range(burst + 1)] == [True] * burst + [False]


def test_how_long_to_wait_is_told_and_is_enough() -> None:
    clock = Clock()
    allowance = Allowance(KeyLimits(pictures_per_minute=7, burst=5), clock)
    assert taken(allowance, 4)
    with pytest.raises(KeyLimitError) as raised, allowance.admitted(3):
        pass
    # two are missing, at 7 in 60 s
    assert raised.value.retry_after_s == 18
    clock.now += 17
    assert not taken(allowance, 3)
    clock.now += 1
    assert taken(allowance, 3)


def test_what_is_refused_takes_nothing() -> None:
    allowance = Allowance(KeyLimits(pictures_per_minute=60, burst=4, concurrent_pictures=4), Clock())
    with allowance.admitted(3):
        assert not taken(allowance, 2)
        assert taken(allowance, 1)
    with pytest.raises(PermissionDeniedError), allowance.admitted(5):
        pass
    assert not taken(allowance)


def test_pictures_under_way_are_bounded_until_they_end() -> None:
    allowance = Allowance(KeyLimits(concurrent_pictures=4), Clock())
    with ExitStack() as held:
        held.enter_context(allowance.admitted(3))
        with pytest.raises(KeyLimitError, match="3 pictures of this key are under way, 2 more would exceed 4") as told:
            held.enter_context(allowance.admitted(2))
        assert told.value.retry_after_s is None, "nobody knows when one ends"
        assert taken(allowance, 1)
    assert taken(allowance, 4)


def test_pictures_that_fail_are_under_way_no_more() -> None:
    allowance = Allowance(KeyLimits(concurrent_pictures=4), Clock())
    with pytest.raises(ZeroDivisionError), allowance.admitted(4):
        raise ZeroDivisionError
    assert taken(allowance, 4)


@pytest.mark.parametrize(
    ("limits", "name"),
    [({"pictures_per_minute": 60, "burst": 4}, "burst"), ({"concurrent_pictures": 4}, "concurrent_pictures")],
)
def test_a_request_that_no_waiting_would_help_is_forbidden(limits: dict[str, Any], name: str) -> None:
    allowance = Allowance(KeyLimits(**limits), Clock())
    assert taken(allowance, 4)
    with pytest.raises(PermissionDeniedError, match=f"^5 pictures in one request: must be at most 4, the {name} of"):
        allowance.admitted(5).__enter__()


def test_other_limits_count_what_was_used() -> None:
    clock = Clock()
    allowance = Allowance(KeyLimits(pictures_per_minute=60, burst=10, concurrent_pictures=10), clock)
    with allowance.admitted(8):
        allowance.limits = KeyLimits(pictures_per_minute=60, burst=9, concurrent_pictures=9)
        assert [taken(allowance), taken(allowance)] == [True, False]
    allowance.limits = KeyLimits(pictures_per_minute=60, burst=2)
    assert not taken(allowance)
    clock.now += 2
    assert [taken(allowance, 2), taken(allowance)] == [True, False]


@given(
    rate=st.integers(1, 600),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=40),
)
def test_never_more_than_the_burst_and_the_rate_and_never_less(
    rate: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    """Against the bucket in exact fractions of a picture."""
    clock, tokens = Clock(0.0), Fraction(burst)
    allowance = Allowance(KeyLimits(pictures_per_minute=rate, burst=burst), clock)
    for quarters, pictures in steps:
        clock.now += quarters / 4
        tokens = min(Fraction(burst), tokens + Fraction(quarters * rate, 4 * 60))
        # a float may lie a rounding beside the fraction
        if pictures <= burst and abs(tokens - pictures) > Fraction(1, 10**9):
            assert taken(allowance, pictures) == (tokens >= pictures)
            tokens -= pictures if tokens >= pictures else 0
