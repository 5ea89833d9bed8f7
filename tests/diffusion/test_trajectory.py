"""Trajectories: the pairs of sigma and timestep, and where walks start and end."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusionImg2ImgPipeline

from diffusion.errors import DiffusionError
from diffusion.flow import FlowSchedule
from diffusion.samplers import find_sampler
from diffusion.schedule import NoiseSchedule
from diffusion.spacing import Spacing
from diffusion.trajectory import ZERO_SNR_SIGMA, Trajectory

SCHEDULE = NoiseSchedule(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


def walk(sampler: str, spacing: Spacing, steps: int, schedule: NoiseSchedule | FlowSchedule = SCHEDULE) -> Trajectory:
    return find_sampler(sampler).trajectory(schedule, spacing, steps)


def test_euler_lands_where_the_next_step_asks() -> None:
    steps = walk("euler", Spacing(), 7).steps
    assert all(step.sigma_next == following.sigma for step, following in pairwise(steps))
    assert steps[-1].sigma_next == 0


def test_euler_keeps_fractional_timesteps_and_ddim_rounds_them() -> None:
    spacing = Spacing("linspace")
    exact, rounded = walk("euler", spacing, 8), walk("ddim", spacing, 8)
    assert (exact.timestep_rule, rounded.timestep_rule) == ("exact", "rounded")
    assert any(not step.timestep.is_integer() for step in exact.steps)
    assert [step.timestep for step in rounded.steps] == [round(step.timestep) for step in exact.steps]


def test_ddim_counts_down_by_whole_strides() -> None:
    steps = walk("ddim", Spacing("linspace"), 10).steps
    assert steps[0].sigma_next == SCHEDULE.sigmas[999 - 100]
    assert steps[1].sigma == SCHEDULE.sigmas[888]


@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [("ddim", Spacing(set_alpha_to_one=False)), ("euler", Spacing(final_sigmas_type="sigma_min"))],
)
def test_final_sigma_can_be_the_first_trained_one(sampler: str, spacing: Spacing) -> None:
    assert walk(sampler, spacing, 5).steps[-1].sigma_next == pytest.approx(SCHEDULE.sigmas[0])
    assert walk(sampler, Spacing(), 5).steps[-1].sigma_next == 0


def test_initial_deviation_follows_sampler_and_spacing() -> None:
    for sampler, spacing, plain in (
        ("euler", "leading", False),
        ("euler", "trailing", True),
        ("ddim", "trailing", False),
    ):
        trajectory = walk(sampler, Spacing(spacing), 5)  # type: ignore[arg-type]
        sigma = trajectory.steps[0].sigma
        assert trajectory.initial_deviation == (sigma if plain else math.hypot(1, sigma))


def test_initial_latents_are_scaled_noise_in_float32() -> None:
    trajectory = walk("euler", Spacing(), 5)
    latents = trajectory.initial_latents(np.ones((1, 4, 2, 2), dtype=np.float32))
    assert latents.dtype == np.float32
    assert latents[0, 0, 0, 0] == np.float32(trajectory.initial_deviation)


def test_zero_terminal_snr_starts_at_a_finite_sigma() -> None:
    schedule = NoiseSchedule(rescale_betas_zero_snr=True)
    trajectory = walk("ddim", Spacing("trailing"), 5, schedule)
    assert trajectory.steps[0].sigma == ZERO_SNR_SIGMA
    assert trajectory.starts_at_zero_snr
    assert not trajectory.starting_at(1).starts_at_zero_snr
    assert not walk("ddim", Spacing("leading"), 5, schedule).starts_at_zero_snr


def test_starting_at_leaves_out_the_first_steps() -> None:
    trajectory = walk("ddim", Spacing(), 5)
    assert trajectory.starting_at(3).steps == trajectory.steps[3:]
    for step in (-1, 5):
        with pytest.raises(DiffusionError, match=f"step={step}: must be a whole number between 0 and 4"):
            trajectory.starting_at(step)


@pytest.mark.parametrize("steps", [1, 7, 10, 25, 100])
@pytest.mark.parametrize("strength", [0.01, 0.07, 0.29, 0.3, 0.58, 0.75, 0.99, 1.0])
def test_strength_leaves_out_what_diffusers_leaves_out(steps: int, strength: float) -> None:
    scheduler = SimpleNamespace(timesteps=list(range(steps)), order=1)
    for row, pipeline in (
        ("ddim", StableDiffusionImg2ImgPipeline),
        ("flow_euler", StableDiffusion3Img2ImgPipeline),
    ):
        left, _ = pipeline.get_timesteps(SimpleNamespace(scheduler=scheduler), steps, strength, "cpu")
        whole = walk(row, Spacing(), steps, FlowSchedule() if row == "flow_euler" else SCHEDULE)
        if left:
            part = whole.of_strength(strength, steps)
            assert (part.steps, part.skipped) == (whole.steps[left[0] :], whole.steps[: left[0]])
        else:
            with pytest.raises(DiffusionError, match=f"strength={strength}: must be at least 1/{steps} for {steps}"):
                whole.of_strength(strength, steps)


def test_strength_counts_steps_and_neither_queries_nor_repeated_ones() -> None:
    for sampler, left in (("heun", 3), ("pndm", 4)):
        assert len(walk(sampler, Spacing(), 10).of_strength(0.3, 10).steps) == left


def test_strength_is_checked() -> None:
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(DiffusionError, match=r"strength=.*: must be between 0 and 1"):
            walk("ddim", Spacing(), 5).of_strength(strength, 5)
    with pytest.raises(DiffusionError, match=r"strength=0.0: must be over 0"):
        walk("flow_euler", Spacing(), 5, FlowSchedule()).of_strength(0.0, 5)
    runge_kutta = walk("pndm", Spacing(skip_prk_steps=False), 5)
    assert runge_kutta.of_strength(1.0, 5) == runge_kutta
    with pytest.raises(DiffusionError, match=r"strength=0.5: must be 1 where .* skip_prk_steps is false"):
        runge_kutta.of_strength(0.5, 5)


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.0, True])
def test_number_of_steps_is_checked(steps: int) -> None:
    with pytest.raises(DiffusionError, match=f"steps={steps}: must be a whole number between 1 and 1000"):
        walk("ddim", Spacing(), steps)


def test_two_walks_that_meet_at_a_timestep_are_the_whole_one() -> None:
    whole = walk("euler", Spacing(), 10)
    first, second = (whole.between(*part, 1000) for part in ((0.0, 0.7), (0.7, 1.0)))
    assert first.steps + second.steps == whole.steps
    assert [step.timestep >= 300 for step in whole.steps].count(True) == len(first.steps)
    assert second.skipped == first.steps
    assert whole.between(0.0, 1.0, 1000) == whole


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (-0.1, 1.0, "start=-0.1"),
        (0.5, 0.4, "end=0.4"),
        (0.5, 0.5, "end=0.5: must be late enough"),
        (1.0, 1.0, "end=1"),
        (float("nan"), 1.0, "start=nan"),
    ],
)
def test_a_part_of_a_walk_without_a_step_is_refused(start: float, end: float, words: str) -> None:
    with pytest.raises(DiffusionError, match=words):
        walk("euler", Spacing(), 10).between(start, end, 1000)
