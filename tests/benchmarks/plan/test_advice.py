"""What is advised holds, and nothing less does."""

import math

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.plan.advice import Advice, advise, core_seconds
from benchmarks.plan.demand import mix_of, poisson
from benchmarks.plan.simulation import DEPLOYMENTS, Scene, Simulation
from benchmarks.plan.times import StageTimes
from tests.benchmarks.plan.reckoning import timed

pytestmark = pytest.mark.slow  # some minutes of a system's life in each

MIX = mix_of("4x64x64")
EVEN = dict.fromkeys(DEPLOYMENTS, 1.0)


def quiet(_: str) -> None:
    pass


RATE = 10.0


@pytest.fixture(scope="module")
def times() -> StageTimes:
    """Half a second alone; a denoiser does ten pictures a second at most, a decoder five."""
    return timed(rows=8, run_s={2: 0.05, 8: 0.1}, vae_decoder_s=0.2, text_encoder_s=0.02, ingress_s=0.04, graph_s=0.04)


@pytest.fixture(scope="module")
def advice(times: StageTimes) -> Advice:
    return advise(times, MIX, RATE, 0.8, EVEN, quiet)


def p95(times: StageTimes, replicas: dict[str, int], per_second: float) -> float:
    outcome = Simulation(times, Scene(replicas), seed=9).run(poisson(MIX, per_second, 300.0, seed=8))
    seconds = sorted(each.seconds for each in outcome.answers)
    return math.inf if outcome.refused else seconds[int(0.95 * len(seconds))]


def test_it_holds_on_another_load_of_the_same_rate_and_one_replica_less_does_not(
    times: StageTimes, advice: Advice
) -> None:
    replicas = dict(advice.held.replicas)
    assert advice.held.p95_s <= 0.8
    assert p95(times, replicas, RATE) <= 0.8 * 1.1
    for name, count in replicas.items():
        if count > 1:
            assert p95(times, {**replicas, name: count - 1}, RATE) > 0.8 * 0.9, name


def test_nobody_is_asked_for_more_than_a_lax_bound_needs(times: StageTimes, advice: Advice) -> None:
    lax = advise(times, MIX, RATE, 10.0, EVEN, quiet).held.replicas
    assert all(lax[name] <= advice.held.replicas[name] for name in DEPLOYMENTS)
    assert sum(lax.values()) < sum(advice.held.replicas.values())
    # no fewer could do all of the work
    needed = core_seconds(times, MIX)
    assert all(lax[name] >= math.ceil(RATE * needed[name]) for name in DEPLOYMENTS)


def test_twice_the_rate_takes_no_more_than_twice_as_many(times: StageTimes, advice: Advice) -> None:
    twice = advise(times, MIX, 2 * RATE, 0.8, EVEN, quiet)
    assert advice.hourly < twice.hourly <= 2 * advice.hourly


def test_cost_is_what_the_replicas_cost(times: StageTimes) -> None:
    prices = {**EVEN, "denoiser": 8.0, "ingress": 0.25}
    advice = advise(times, MIX, RATE, 0.8, prices, quiet)
    assert advice.hourly == sum(prices[name] * count for name, count in advice.held.replicas.items())
    assert advice.thousand == pytest.approx(advice.hourly / (3.6 * RATE))


def test_work_is_counted_in_its_shares(times: StageTimes) -> None:
    mixed = core_seconds(times, mix_of("4x64x64=1,12x64x64=3"))
    # ten steps in the mean, a quarter of a full run each
    assert mixed["denoiser"] == pytest.approx(10 * 0.1 / 4)
    assert mixed["vae_decoder"] == pytest.approx(0.2)


def test_what_not_even_one_picture_can_hold_is_told(times: StageTimes) -> None:
    with pytest.raises(BenchmarkError, match=r"^--p95 0\.4s: cannot be met: with nothing else on it is 0\.5 s$"):
        advise(times, MIX, 1.0, 0.4, EVEN, quiet)


def test_a_bound_between_the_kinds_of_a_mix_counts_the_slow_ones(times: StageTimes) -> None:
    seldom, often = mix_of("4x64x64=97,100x64x64=3"), mix_of("4x64x64=90,100x64x64=10")
    assert advise(times, seldom, 2.0, 1.5, EVEN, quiet).held.p95_s <= 1.5
    with pytest.raises(BenchmarkError, match="cannot be met"):
        advise(times, often, 2.0, 1.5, EVEN, quiet)
