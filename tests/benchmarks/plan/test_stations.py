"""Calls spread over replicas, and replicas that come and go."""

import random
from collections.abc import Callable

import pytest
import simpy

from benchmarks.plan.cores import Cores
from benchmarks.plan.stations import Deployment, Steps, Worker


def workers(env: simpy.Environment, count: int, most: int) -> "Deployment[Worker]":
    return Deployment(env, "stage", lambda: Worker(env, most, Cores(env, 1)), count, random.Random(3))


@pytest.mark.slow
def test_of_two_by_chance_the_less_busy_is_taken() -> None:
    """Mitzenmacher's law of long queues: with sharing, whatever the service, a call stays sum of r ** (2 ** i - 2)."""
    env, busy, count = simpy.Environment(), 0.9, 200
    stage = workers(env, count, 10**6)
    rng = random.Random(1)

    def come() -> Steps:
        for _ in range(50_000):
            yield env.timeout(rng.expovariate(busy * count))
            env.process(stage.call(1.0))

    env.process(come())
    env.run()
    law = sum(busy ** (2**i - 2) for i in range(1, 8))
    assert stage.stayed_s / stage.calls == pytest.approx(law, rel=0.05)


def test_calls_wait_where_all_are_full_and_go_on_in_their_order() -> None:
    env = simpy.Environment()
    stage = workers(env, 1, 1)
    ended: list[tuple[int, float]] = []

    def one(number: int) -> Steps:
        yield from stage.call(2.0)
        ended.append((number, env.now))

    for number in range(3):
        env.process(one(number))
    env.run(until=1)
    assert (stage.waiting, stage.ongoing) == (2, 3)
    env.run()
    assert ended == [(0, 2.0), (1, 4.0), (2, 6.0)]


def at(env: simpy.Environment, second: float, do: Callable[[], object]) -> None:
    def later() -> Steps:
        yield env.timeout(second)
        do()

    env.process(later())


def test_what_is_paid_is_from_the_order_until_the_end() -> None:
    env = simpy.Environment()
    stage = workers(env, 1, 1)
    at(env, 10, lambda: stage.scale(3, 5.0))
    at(env, 20, lambda: stage.scale(1, 5.0))
    env.run(until=30)
    # one all the time, two from their order at 10 until 20
    assert stage.paid_s == 30 + 2 * 10
    assert stage.history == [(0, 1), (15, 2), (15, 3), (20, 2), (20, 1)]


def test_a_replica_that_is_not_wanted_any_more_ends_what_it_has() -> None:
    env = simpy.Environment()
    stage = workers(env, 2, 1)
    ended: list[float] = []

    def one() -> Steps:
        yield from stage.call(10.0)
        ended.append(env.now)

    env.process(one())
    env.process(one())
    at(env, 1, lambda: stage.scale(1, 0.0))
    env.run(until=20)
    assert ended == [10, 10]
    assert stage.paid_s == 20 + 10
    assert stage.worked_s == 20


def test_one_that_is_given_up_before_it_is_there_never_comes() -> None:
    env = simpy.Environment()
    stage = workers(env, 1, 1)
    at(env, 0, lambda: stage.scale(4, 100.0))
    at(env, 1, lambda: stage.scale(2, 100.0))
    env.run(until=200)
    assert (stage.count, stage.target) == (2, 2)


def test_what_waits_is_taken_by_a_new_one() -> None:
    env = simpy.Environment()
    stage = workers(env, 1, 1)
    ended: list[float] = []

    def one() -> Steps:
        yield from stage.call(10.0)
        ended.append(env.now)

    for _ in range(2):
        env.process(one())
    at(env, 1, lambda: stage.scale(2, 2.0))
    env.run()
    assert ended == [10, 13]
