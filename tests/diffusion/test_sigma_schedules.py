"""Sigma schedules: against their formulas, against diffusers, and what refuses them."""

import math

import numpy as np
import pytest
import scipy.stats  # type: ignore[import-untyped]
import torch
from diffusers import EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffusion.arrays import Table
from diffusion.beta_quantile import symmetric_beta_quantile
from diffusion.errors import DiffusionError, UnknownNameError
from diffusion.samplers import SAMPLERS, find_sampler
from diffusion.schedule import NoiseSchedule
from diffusion.sigma_schedules import SIGMA_SCHEDULES, find_sigma_schedule, sigmas_at, timesteps_at
from diffusion.spacing import Spacing
from diffusion.trajectory import Trajectory

SCHEDULE = NoiseSchedule(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
TAKERS = [name for name, row in SAMPLERS.items() if row.conventions.takes_schedules and not row.flow]


def walk(sampler: str, schedule: str, steps: int) -> Trajectory:
    return find_sampler(sampler).trajectory(SCHEDULE, Spacing(), steps, sigma_schedule=schedule)


def sigmas_of(trajectory: Trajectory) -> Table:
    return np.array([step.sigma for step in trajectory.steps])


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.5])
def test_beta_quantiles_are_those_of_scipy(shape: float) -> None:
    shares = np.linspace(0, 1, 401)
    assert_allclose(symmetric_beta_quantile(shares, shape), scipy.stats.beta.ppf(shares, shape, shape), atol=1e-12)


@given(st.sampled_from(["karras", "exponential", "beta"]), st.integers(2, 100))
def test_spreads_fall_from_the_largest_sigma_to_the_smallest(name: str, steps: int) -> None:
    spread = find_sigma_schedule(name).spread
    assert spread is not None
    sigmas = spread(steps, 0.03, 14.6)
    assert len(sigmas) == steps
    assert (np.diff(sigmas) < 0).all()
    assert_allclose(sigmas[[0, -1]], [14.6, 0.03], rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 10, 30])
def test_karras_is_equation_5(steps: int) -> None:
    largest, smallest = SCHEDULE.sigmas[-1], SCHEDULE.sigmas[0]
    places = [step / max(steps - 1, 1) for step in range(steps)]
    expected = [(largest ** (1 / 7) + place * (smallest ** (1 / 7) - largest ** (1 / 7))) ** 7 for place in places]
    assert_allclose(sigmas_of(walk("dpmpp_2m", "karras", steps)), expected, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 7, 20, 50])
def test_simple_and_sgm_uniform_are_those_of_comfyui(steps: int) -> None:
    # ComfyUI: sigmas[-(1 + int(x * len(sigmas) / steps))], and linspace(start, end, steps + 1)[:-1]
    simple = [SCHEDULE.sigmas[-(1 + int(x * 1000 / steps))] for x in range(steps)]
    assert_allclose(sigmas_of(walk("euler", "simple", steps)), simple, rtol=1e-6)
    uniform = walk("euler", "sgm_uniform", steps)
    assert_allclose([step.timestep for step in uniform.steps], [999 * (1 - x / steps) for x in range(steps)], rtol=1e-6)
    logs = np.log(SCHEDULE.sigmas)
    lows = [math.floor(step.timestep) for step in uniform.steps]
    shares = [step.timestep - low for step, low in zip(uniform.steps, lows, strict=True)]
    expected = [
        math.exp((1 - share) * logs[low] + share * logs[min(low + 1, 999)])
        for low, share in zip(lows, shares, strict=True)
    ]
    assert_allclose(sigmas_of(uniform), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize(("name", "key"), [("align_your_steps", ""), ("align_your_steps_sdxl", "XL")])
def test_ten_aligned_steps_are_those_of_diffusers(name: str, key: str) -> None:
    from diffusers.schedulers import AysSchedules

    published = AysSchedules[f"StableDiffusion{key}Sigmas"]
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(sigmas=published)
    trajectory = walk("euler", name, 10)
    assert_allclose([*sigmas_of(trajectory), 0.0], scheduler.sigmas.numpy(), rtol=1e-6)
    timesteps = torch.tensor([step.timestep for step in trajectory.steps])
    torch.testing.assert_close(timesteps, scheduler.timesteps, rtol=0, atol=2e-3)


def test_aligned_steps_are_for_the_noise_they_were_made_for() -> None:
    cosine = NoiseSchedule(beta_schedule="squaredcos_cap_v2")
    with pytest.raises(DiffusionError, match="schedule='align_your_steps': must be another: its sigmas are Stable"):
        find_sampler("euler").trajectory(cosine, Spacing(), 10, sigma_schedule="align_your_steps")


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("schedule", SIGMA_SCHEDULES)
def test_every_sampler_that_takes_one_takes_all(name: str, schedule: str) -> None:
    for steps in (1, 2, 12, 40):
        steps_of_walk = walk(name, schedule, steps).steps
        assert len(steps_of_walk) == steps
        sigmas = [step.sigma for step in steps_of_walk]
        assert sigmas == sorted(set(sigmas), reverse=True)
        assert all(0 <= step.timestep <= 999 for step in steps_of_walk)


def test_a_sampler_on_its_own_timesteps_refuses_them() -> None:
    with pytest.raises(UnknownNameError, match="schedule='karras': must be one of default"):
        walk("lcm", "karras", 4)


def test_too_many_steps_for_distinct_sigmas_are_refused() -> None:
    for schedule in ("default", "simple"):
        walk("dpmpp_2m", schedule, 500)
    with pytest.raises(DiffusionError, match="steps=1000: must be fewer"):
        walk("dpmpp_2m", "default", 1000)


@given(st.floats(0, 999))
def test_timesteps_and_sigmas_are_inverse(timestep: float) -> None:
    sigma = sigmas_at(np.array([timestep]), SCHEDULE.sigmas)
    assert timesteps_at(sigma, SCHEDULE.sigmas)[0] == pytest.approx(timestep, abs=1e-3)


def test_unknown_schedule_lists_the_choices() -> None:
    with pytest.raises(UnknownNameError, match="schedule='turbo': must be one of align_your_steps, .*, simple"):
        find_sigma_schedule("turbo")
