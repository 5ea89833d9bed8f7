"""Cores that pieces of work share, by the laws of processor sharing."""

import simpy
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plan.cores import Cores, OneAtATime
from benchmarks.plan.stations import Steps


def ends(number: int, pieces: list[tuple[float, float]]) -> list[float]:
    """When each of these ends, which come at a second and take so many."""
    env = simpy.Environment()
    cores = Cores(env, number)
    found = [0.0] * len(pieces)

    def one(index: int, at_s: float, seconds: float) -> Steps:
        yield env.timeout(at_s)
        yield cores.work(seconds)
        found[index] = env.now

    for index, (at_s, seconds) in enumerate(pieces):
        env.process(one(index, at_s, seconds))
    env.run()
    return found


def stepped(number: int, pieces: list[tuple[float, float]]) -> list[float]:
    """The same by the law as it is written: from event to event, each at a share of the cores."""
    left = {index: seconds for index, (_, seconds) in enumerate(pieces)}
    found = [0.0] * len(pieces)
    now = 0.0
    while left:
        here = [index for index in left if pieces[index][0] <= now]
        coming = [pieces[index][0] - now for index in left if pieces[index][0] > now]
        if not here:
            now += min(coming)
            continue
        speed = min(1.0, number / len(here))
        step = min([left[index] / speed for index in here] + coming)
        for index in here:
            left[index] -= step * speed
            if left[index] <= 1e-12:
                del left[index]
                found[index] = now + step
        now += step
    return found


# in milliseconds, so that no two events are nearer than a float tells apart
pieces_of_work = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), min_size=1, max_size=12)


@given(st.integers(1, 4), pieces_of_work)
def test_every_piece_goes_on_at_the_same_speed(number: int, pieces: list[tuple[int, int]]) -> None:
    found = ends(number, [(float(at), float(takes)) for at, takes in pieces])
    expected = stepped(number, [(float(at), float(takes)) for at, takes in pieces])
    assert all(abs(mine - theirs) < 1e-6 for mine, theirs in zip(found, expected, strict=True))


def test_two_on_two_cores_do_not_wait_and_three_do() -> None:
    assert ends(2, [(0, 6), (0, 6)]) == [6, 6]
    assert ends(2, [(0, 6), (0, 6), (0, 6)]) == [9, 9, 9]
    # until the second comes the first has the core to itself
    assert ends(1, [(0, 4), (2, 1)]) == [5, 4]


def test_work_of_no_length_ends_at_once() -> None:
    assert ends(1, [(1, 0), (1, 3)]) == [1, 4]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_one_after_the_other_is_the_same_by_a_core_for_one(seconds: list[int]) -> None:
    def all_of(core: Cores | OneAtATime) -> Steps:
        for each in seconds:
            yield core.work(each)

    for make in (lambda env: Cores(env, 1), OneAtATime):
        env = simpy.Environment()
        env.run(until=env.process(all_of(make(env))))
        assert env.now == sum(seconds)
