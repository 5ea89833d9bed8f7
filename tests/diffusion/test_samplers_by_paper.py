"""Samplers that diffusers lacks, against their papers' recurrences in float64."""

import math
from itertools import count, pairwise, repeat

import numpy as np
import numpy.typing as npt
import pytest
from numpy.testing import assert_allclose

from diffusion.arrays import Array
from diffusion.drive import run
from diffusion.noise import noise
from diffusion.prediction import find_prediction
from diffusion.samplers import Query, find_sampler
from diffusion.schedule import NoiseSchedule
from diffusion.spacing import Spacing, TimestepSpacing

SHAPE = (1, 4, 4, 4)
SCHEDULE = NoiseSchedule(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)

Float64 = npt.NDArray[np.float64]


def network(x: Float64, timestep: float) -> Float64:
    return 0.7 * np.tanh(x * 0.8 + 0.3) + 0.3 * math.sin(timestep / 70)


def signal(sigma: float) -> float:
    """The paper's alpha, for sigma its ratio of noise to signal."""
    return 1 / math.sqrt(1 + sigma**2)


def estimate(x: Float64, sigma: float, timestep: float, prediction_type: str) -> Float64:
    """The paper's data prediction x_theta of variance-preserving x."""
    alpha, deviation = signal(sigma), sigma * signal(sigma)
    output = network(x, timestep)
    if prediction_type == "epsilon":
        return (x - deviation * output) / alpha
    return alpha * x - deviation * output if prediction_type == "v_prediction" else output


def first_order(x: Float64, start: float, end: float, estimated: Float64) -> Float64:
    """The exact solution of Lu et al. 2022b for a constant estimate, between two values of lambda = -log(sigma)."""
    h = math.log(start / end)
    ratio = end * signal(end) / (start * signal(start))
    return ratio * x - signal(end) * math.expm1(-h) * estimated


def timestep_of(sigma: float) -> float:
    logs = np.log(SCHEDULE.sigmas)
    return float(np.interp(math.log(sigma), logs, np.arange(1000)))


def dpmpp_2s_ancestral(x: Float64, sigmas: list[float], timesteps: list[float], prediction_type: str) -> Float64:
    """Lu et al. 2022b, algorithm 1, r = 1/2, in their variance-preserving coordinate; DDPM's posterior variance."""
    for step, ((start, end), timestep) in enumerate(zip(pairwise([*sigmas, 0.0]), timesteps, strict=True)):
        estimated = estimate(x, start, timestep, prediction_type)
        if end == 0:
            return estimated
        variance = end**2 * (start**2 - end**2) / start**2
        down = math.sqrt(end**2 - variance)
        middle = math.exp((math.log(start) + math.log(down)) / 2)
        u = first_order(x, start, middle, estimated)
        x = first_order(x, start, down, estimate(u, middle, timestep_of(middle), prediction_type))
        fresh = noise(5, step + 1, SHAPE).astype(np.float64)
        x = signal(end) * (x / signal(down) + math.sqrt(variance) * fresh)
    return x


@pytest.mark.parametrize("schedule", ["default", "karras", "exponential", "beta", "sgm_uniform", "align_your_steps"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_dpmpp_2s_ancestral(prediction_type: str, spacing: TimestepSpacing, schedule: str) -> None:
    prediction = find_prediction(prediction_type)
    row = find_sampler("dpmpp_2s_ancestral")

    def denoise(query: Query) -> Array:
        seen = prediction.network_input(query.latents, query.sigma).astype(np.float64)
        output = network(seen, query.timestep).astype(np.float32)
        return prediction.denoised(output, query.latents, query.sigma)

    for steps, start in ((1, 0), (2, 0), (3, 0), (5, 0), (5, 2), (10, 0), (10, 9), (25, 0), (50, 0)):
        whole = row.trajectory(SCHEDULE, Spacing(spacing), steps, sigma_schedule=schedule)
        trajectory = whole.starting_at(start)
        sigmas = [step.sigma for step in trajectory.steps]
        draws = map(noise, repeat(5), count(1), repeat(SHAPE))
        latents = trajectory.noised(noise(6, 0, SHAPE), noise(7, 0, SHAPE))
        final = run(row.start(latents, trajectory, draw=draws.__next__), denoise)
        expected = dpmpp_2s_ancestral(
            latents.astype(np.float64) * signal(sigmas[0]),
            sigmas,
            [step.timestep for step in trajectory.steps],
            prediction_type,
        )
        assert_allclose(final, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()), err_msg=f"{steps} {start}")
