"""The simulated graph by the laws of queues, which know nothing of it."""

from collections.abc import Iterator

import pytest

from benchmarks.plan.demand import Arrival, mix_of, poisson
from benchmarks.plan.simulation import DEPLOYMENTS, Outcome, Scene, Simulation
from benchmarks.plan.times import StageTimes
from tests.benchmarks.plan.reckoning import timed

ONE = mix_of("1x64x64")
ONES = dict.fromkeys(DEPLOYMENTS, 1)
MANY = 20_000


def load(per_second: float, requests: int = MANY, mix: str = "1x64x64") -> Iterator[Arrival]:
    return poisson(mix_of(mix), per_second, requests / per_second, seed=5)


def mean(outcome: Outcome) -> float:
    return sum(each.seconds for each in outcome.answers) / len(outcome.answers)


@pytest.mark.parametrize("busy", [0.3, 0.6])
@pytest.mark.slow
def test_a_denoiser_that_shares_nothing_is_a_queue_of_one_server(busy: float) -> None:
    """Its mean is Pollaczek and Khinchine's for constant service: 1 + r / (2 (1 - r))."""
    outcome = Simulation(timed(rows=2, run_s={2: 1.0}), Scene(ONES)).run(load(busy))
    assert not outcome.refused
    assert mean(outcome) == pytest.approx(1 + busy / (2 * (1 - busy)), rel=0.04)
    assert outcome.stations["denoiser"].utilisation == pytest.approx(busy, rel=0.02)
    assert outcome.stations["vae_decoder"].utilisation == 0


@pytest.mark.slow
def test_an_event_loop_is_a_queue_too() -> None:
    # it is passed twice, half of the work each time; each pass waits for those of others
    outcome = Simulation(timed(graph_s=1.0), Scene(ONES)).run(load(0.5))
    assert outcome.stations["graph"].utilisation == pytest.approx(0.5, rel=0.02)
    assert mean(outcome) > 1.2


@pytest.mark.slow
def test_a_decoder_shares_its_core_among_its_calls() -> None:
    """With processor sharing the mean is 1 / (1 - r), whatever the law of the service."""
    outcome = Simulation(timed(vae_decoder_s=1.0), Scene(ONES)).run(load(0.3))
    # more than four at a time, who would wait, are one time in a hundred
    assert mean(outcome) == pytest.approx(1 / 0.7, rel=0.04)


@pytest.mark.slow
def test_on_shared_cores_stages_keep_each_other_up() -> None:
    times = timed(rows=2, run_s={2: 0.5}, vae_decoder_s=0.5)
    apart = Simulation(times, Scene(ONES)).run(load(0.7))
    shared = Simulation(times, Scene(ONES, cores=1)).run(load(0.7))
    roomy = Simulation(times, Scene(ONES, cores=100)).run(load(0.7))
    assert mean(roomy) < mean(shared)
    assert mean(apart) < mean(shared)
    # all of the work on one core: no order of service that wastes none can do more
    assert shared.stations["denoiser"].worked_s + shared.stations["vae_decoder"].worked_s > 0.7 * shared.ended_s


def test_full_runs_carry_what_single_ones_cannot() -> None:
    """Eight rows take twice as long as two: four pictures in the time of two."""
    shared = timed(rows=8, run_s={2: 1.0, 8: 2.0})
    outcome = Simulation(shared, Scene(ONES)).run(load(1.6, 4000))
    assert not outcome.refused
    # alone it could do one a second, with full runs two
    assert len(outcome.answers) / outcome.ended_s == pytest.approx(1.6, rel=0.05)
    assert outcome.stations["denoiser"].utilisation < 1


def test_a_picture_alone_takes_what_the_times_say() -> None:
    times = timed(run_s={2: 0.25}, ingress_s=0.5, graph_s=0.25, text_encoder_s=0.125, vae_decoder_s=1.0)
    [asked] = mix_of("6x64x64")
    [answer] = Simulation(times, Scene(ONES)).run([Arrival(3.0, asked)]).answers
    assert answer.at_s == 3.0
    assert answer.seconds == pytest.approx(times.alone_s(asked)) == pytest.approx(6 * 0.25 + 1.875)


def test_the_ingress_refuses_what_it_has_no_room_for() -> None:
    """As many as `ingress.max_images` says by default are let in, and the others told so at once."""
    arrivals = [Arrival(0.0, ONE[0])] * 100
    outcome = Simulation(timed(run_s={2: 1.0}), Scene(ONES)).run(arrivals)
    assert (len(outcome.answers), outcome.refused) == (64, (0.0,) * 36)
    twice = Simulation(timed(run_s={2: 1.0}), Scene({**ONES, "ingress": 2})).run(arrivals)
    assert len(twice.answers) == 100


def test_a_denoiser_refuses_what_it_has_no_room_for() -> None:
    times = timed(run_s={2: 1.0})
    times = times.model_copy(update={"limits": times.limits.model_copy(update={"queued": 10 * 2 * 64})})
    outcome = Simulation(times, Scene(ONES)).run([Arrival(0.0, ONE[0])] * 50)
    assert (len(outcome.answers), len(outcome.refused)) == (10, 40)


def test_the_same_seed_gives_the_same() -> None:
    def once(times: StageTimes, seed: int) -> Outcome:
        three = {**ONES, "denoiser": 3}
        return Simulation(times, Scene(three), seed).run(load(4.0, 500, "3x64x64=1,9x64x64=1"))

    times = timed(rows=8, run_s={2: 0.1, 8: 0.25})
    assert once(times, 1) == once(times, 1)
    assert once(times, 1) != once(times, 2)
