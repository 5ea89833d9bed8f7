"""Samplers: queries follow the walk, noise is asked for in order, bad input is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffusion.arrays import Array
from diffusion.drive import run
from diffusion.errors import DiffusionError, UnknownNameError
from diffusion.flow import FlowSchedule
from diffusion.noise import noise
from diffusion.samplers import SAMPLERS, Draw, Query, ddim, find_sampler
from diffusion.schedule import NoiseSchedule
from diffusion.spacing import Spacing
from diffusion.trajectory import Trajectory

SHAPE = (2, 4, 16, 16)
SCHEDULE = NoiseSchedule(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


def walk(sampler: str, steps: int, schedule: NoiseSchedule = SCHEDULE) -> Trajectory:
    row = find_sampler(sampler)
    return row.trajectory(FlowSchedule() if row.flow else schedule, Spacing("trailing"), steps)


def draws(seed: int = 3) -> Draw:
    numbers = iter(range(1, 1000))
    return lambda: noise(seed, next(numbers), SHAPE)


def test_a_gaussian_is_recovered_by_ddim_with_noise() -> None:
    mean, deviation = 0.7, 0.5

    def denoise(query: Query) -> Array:
        share = deviation**2 / (deviation**2 + query.sigma**2)
        return (mean + share * (query.latents - mean)).astype(np.float32)

    trajectory = walk("ddim", 200)
    start = trajectory.initial_latents(noise(1, 0, SHAPE))
    final = run(find_sampler("ddim").start(start, trajectory, 1.0, draws()), denoise)
    assert final.mean() == pytest.approx(mean, abs=0.05)
    assert final.std() == pytest.approx(deviation, abs=0.05)


def test_without_noise_ddim_and_euler_are_one_method() -> None:
    trajectory = walk("euler", 10)
    start = trajectory.initial_latents(noise(1, 0, SHAPE))
    finals = [
        run(find_sampler(name).start(start, trajectory), lambda query: np.tanh(query.latents))
        for name in ("euler", "ddim")
    ]
    assert_allclose(finals[0], finals[1], atol=1e-5)


def test_the_start_is_left_as_it_was() -> None:
    for name in SAMPLERS:
        trajectory = walk(name, 3)
        start = trajectory.initial_latents(noise(1, 0, SHAPE))
        start.flags.writeable = False
        run(find_sampler(name).start(start, trajectory, draw=draws()), lambda query: np.tanh(query.latents))


def test_queries_are_the_trajectory() -> None:
    for name in SAMPLERS:
        trajectory = walk(name, 4)
        seen: list[tuple[float, float]] = []

        def denoise(query: Query, seen: list[tuple[float, float]] = seen) -> Array:
            seen.append((query.sigma, query.timestep))
            assert query.latents.dtype == np.float32
            return np.tanh(query.latents)

        latents = trajectory.initial_latents(noise(1, 0, SHAPE))
        final = run(find_sampler(name).start(latents, trajectory, draw=draws()), denoise)
        asked = [at for step in trajectory.steps for at in (step, step.second) if at is not None]
        assert seen == [(at.sigma, at.timestep) for at in asked]
        assert len(seen) == trajectory.evaluations
        assert final.dtype == np.float32


@pytest.mark.parametrize(("eta", "expected"), [(0.0, 0), (0.5, 4)])
def test_ddim_draws_once_for_each_step_only_if_eta(eta: float, expected: int) -> None:
    calls: list[int] = []

    def draw() -> Array:
        calls.append(len(calls))
        return noise(3, len(calls), SHAPE)

    trajectory = walk("ddim", 4)
    run(
        ddim(trajectory.initial_latents(noise(1, 0, SHAPE)), trajectory, eta, draw),
        lambda query: np.tanh(query.latents),
    )
    assert len(calls) == expected


def test_two_samplers_in_turns_give_what_each_gives_alone() -> None:
    def denoise(query: Query) -> Array:
        return np.tanh(query.latents)

    def make(name: str) -> tuple[Array, Trajectory]:
        trajectory = walk(name, 5)
        return trajectory.initial_latents(noise(1, 0, SHAPE)), trajectory

    alone = {name: run(find_sampler(name).start(*make(name), draw=draws()), denoise) for name in SAMPLERS}
    active = {name: find_sampler(name).start(*make(name), draw=draws()) for name in SAMPLERS}
    queries = {name: next(sampler) for name, sampler in active.items()}
    finals: dict[str, Array] = {}
    while queries:
        for name, query in list(queries.items()):
            try:
                queries[name] = active[name].send(denoise(query))
            except StopIteration as finished:
                finals[name] = finished.value
                del queries[name]
    for name, final in alone.items():
        assert_array_equal(finals[name], final)


def test_unknown_sampler_lists_the_choices() -> None:
    with pytest.raises(UnknownNameError, match="sampler='plms': must be one of ddim, ddpm, .*, euler, .*, unipc"):
        find_sampler("plms")


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan"), float("inf")])
def test_eta_is_checked_before_the_first_query(eta: float) -> None:
    trajectory = walk("ddim", 3)
    with pytest.raises(DiffusionError, match=r"eta=.*: must be between 0 and 1"):
        find_sampler("ddim").start(noise(1, 0, SHAPE), trajectory, eta, draws())


def test_eta_needs_noise_and_a_sampler_that_takes_it() -> None:
    latents = noise(1, 0, SHAPE)
    with pytest.raises(DiffusionError, match="draw=None"):
        find_sampler("ddim").start(latents, walk("ddim", 3), 0.5)
    with pytest.raises(DiffusionError, match=r"eta=0\.5: must be 0 for euler"):
        find_sampler("euler").start(latents, walk("euler", 3), 0.5, draws())


@pytest.mark.parametrize("name", [name for name, row in SAMPLERS.items() if row.draws])
def test_noisy_samplers_need_noise_before_the_first_query(name: str) -> None:
    with pytest.raises(DiffusionError, match="draw=None: must be a source of noise"):
        find_sampler(name).start(noise(1, 0, SHAPE), walk(name, 3))


DRAWS = {
    "ddpm": 4,
    "euler_ancestral": 4,
    "dpm2_ancestral": 3,
    "dpmpp_2m_sde": 4,
    "dpmpp_3m_sde": 4,
    "dpmpp_sde": 6,
    "dpmpp_2s_ancestral": 3,
    "lcm": 3,
    "tcd": 3,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_of_four_steps(name: str) -> None:
    calls: list[int] = []

    def draw() -> Array:
        calls.append(len(calls))
        return noise(3, len(calls), SHAPE)

    trajectory = walk(name, 4)
    sampler = find_sampler(name).start(trajectory.initial_latents(noise(1, 0, SHAPE)), trajectory, draw=draw)
    run(sampler, lambda query: np.tanh(query.latents))
    assert len(calls) == DRAWS.get(name, 0)


def test_tcd_takes_its_own_eta() -> None:
    latents = noise(1, 0, SHAPE)
    finals = [
        run(find_sampler("tcd").start(latents, walk("tcd", 4), eta, draws()), lambda query: np.tanh(query.latents))
        for eta in (None, 0.3, 0.0)
    ]
    assert_array_equal(finals[0], finals[1])
    assert not np.array_equal(finals[0], finals[2])
    with pytest.raises(DiffusionError, match=r"eta=1\.5: must be between 0 and 1"):
        find_sampler("tcd").start(latents, walk("tcd", 4), 1.5, draws())
