"""Replicas that scale in simulated time, by the policies and delays that Serve has."""

import random
from itertools import pairwise

import simpy

from benchmarks.plan.autoscaling import Autoscaler
from benchmarks.plan.cores import Cores
from benchmarks.plan.demand import Arrival, mix_of
from benchmarks.plan.simulation import DEPLOYMENTS, Outcome, Scaled, Scene, Simulation
from benchmarks.plan.stations import Deployment, Worker
from services.stage_args import DenoiserArgs, VaeDecoderArgs
from tests.benchmarks.plan.reckoning import timed

START_S, UP_S, DOWN_S = 7.0, 30.0, 120.0
# Serve's handles tell only every ten seconds, of the mean of half a minute
LAG_S = 45.0


def held(args: VaeDecoderArgs, calls: list[tuple[float, int]], until: float) -> list[tuple[float, int]]:
    """How many decoders there are, where so many calls are under way from a second on."""
    env = simpy.Environment()
    stage: Deployment[Worker] = Deployment(
        env, "vae_decoder", lambda: Worker(env, 4, Cores(env, 1)), args.replicas, random.Random(0)
    )
    Autoscaler(
        env,
        stage,
        args.serve_options()["autoscaling_config"],
        START_S,
        lambda: [count for at_s, count in calls if at_s <= env.now][-1],
    )
    env.run(until=until)
    return stage.history


def test_as_many_run_as_the_calls_need_after_serves_delays() -> None:
    args = VaeDecoderArgs(replicas=1, max_replicas=8, ongoing_target=2, upscale_delay_s=UP_S, downscale_delay_s=DOWN_S)
    history = held(args, [(0, 1), (100, 12), (300, 1)], 700)
    counts = [count for _, count in history]
    assert max(counts) == 6
    assert counts[-1] == 1
    first_more = next(at for at, count in history if count > 1)
    assert 100 + UP_S + START_S <= first_more <= 100 + UP_S + START_S + LAG_S
    first_fewer = next(at for (at, count), (_, before) in zip(history[1:], history, strict=False) if count < before)
    assert 300 + DOWN_S <= first_fewer <= 300 + DOWN_S + LAG_S


def test_bounds_hold() -> None:
    args = VaeDecoderArgs(replicas=2, max_replicas=5, ongoing_target=2, upscale_delay_s=0, downscale_delay_s=0)
    counts = [count for _, count in held(args, [(0, 0), (50, 1000), (200, 0)], 400)]
    assert (min(counts), max(counts), counts[-1]) == (2, 5, 2)


def drawn(args: DenoiserArgs, arrivals: list[Arrival]) -> Outcome:
    scaled = {"denoiser": Scaled(args.serve_options()["autoscaling_config"], START_S)}
    replicas = {**dict.fromkeys(DEPLOYMENTS, 10), "denoiser": args.replicas}
    return Simulation(timed(rows=2, run_s={2: 0.1}), Scene(replicas, scaled)).run(arrivals)


def test_denoisers_scale_by_the_work_that_waits_not_by_calls() -> None:
    """The same number of requests, of which the one kind is a hundred times as much work."""
    args = DenoiserArgs(replicas=1, max_replicas=20, work_target_s=2, upscale_delay_s=10, downscale_delay_s=30)
    [short], [long] = mix_of("1x64x64"), mix_of("100x64x64")
    moments = [0.5 * number for number in range(400)]
    few = drawn(args, [Arrival(at_s, short) for at_s in moments])
    many = drawn(args, [Arrival(at_s, long) for at_s in moments])
    assert [count for _, count in few.stations["denoiser"].history] == [1]
    # twenty are always at work: two a second, of ten seconds each
    assert max(count for _, count in many.stations["denoiser"].history) == 20
    assert len(many.answers) == len(few.answers) == 400


def test_what_is_paid_for_goes_down_again() -> None:
    # what a denoiser has taken stays with it: the first one has most of the long ones
    args = DenoiserArgs(replicas=1, max_replicas=10, work_target_s=1, upscale_delay_s=0, downscale_delay_s=20)
    [short], [long] = mix_of("1x64x64"), mix_of("60x64x64")
    arrivals = [Arrival(0.1 * number, long) for number in range(40)]
    arrivals += [Arrival(400.0 + 5 * number, short) for number in range(40)]
    outcome = drawn(args, arrivals)
    counts = [count for _, count in outcome.stations["denoiser"].history]
    assert max(counts) == 10
    assert counts[-1] == 1
    assert all(abs(later - sooner) == 1 for sooner, later in pairwise(counts))
    assert outcome.stations["denoiser"].paid_s < 10 * outcome.ended_s
