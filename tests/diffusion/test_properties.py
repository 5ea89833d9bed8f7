"""What every sampler owes: a point mass and a Gaussian are recovered, and errors fall with the order of the method."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from numpy.testing import assert_allclose

from diffusion.arrays import Array
from diffusion.drive import run
from diffusion.flow import FlowSchedule
from diffusion.noise import noise
from diffusion.samplers import SAMPLERS, Draw, Query, find_sampler
from diffusion.schedule import NoiseSchedule
from diffusion.spacing import Spacing
from diffusion.trajectory import Trajectory
from tests.diffusion.convergence import ORDERED, STEPS, error, slope

SHAPE = (2, 4, 16, 16)
SCHEDULE = NoiseSchedule(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
MEAN, DEVIATION = 0.7, 0.5

# these end at the first trained timestep, not at sigma 0
END_IN_NOISE = ("deis", "tcd")


def walk(name: str, steps: int, zero_snr: bool = False, schedule: str = "default") -> Trajectory:
    row = find_sampler(name)
    trained = FlowSchedule() if row.flow else replace(SCHEDULE, rescale_betas_zero_snr=zero_snr)
    return row.trajectory(trained, Spacing("trailing"), steps, sigma_schedule=schedule)


def draws() -> Draw:
    numbers = iter(range(1, 1000))
    return lambda: noise(3, next(numbers), SHAPE)


@pytest.mark.parametrize(
    ("name", "zero_snr"),
    [(name, zero_snr) for name in SAMPLERS for zero_snr in (False, True)],
)
def test_a_point_mass_is_recovered(name: str, zero_snr: bool) -> None:
    point = noise(9, 0, SHAPE)
    for steps in (1, 2, 20):
        trajectory = walk(name, steps, zero_snr)
        start = trajectory.initial_latents(noise(1, 0, SHAPE))
        final = run(find_sampler(name).start(start, trajectory, draw=draws()), lambda _: point)
        left = 5 * float(SCHEDULE.sigmas[0]) if name in END_IN_NOISE else 0.0
        # float32 latents at Euler's first sigma at zero terminal SNR, 4096, are 5e-4 apart
        assert_allclose(final, point, atol=left + (3e-3 if zero_snr else 3e-5), err_msg=f"{steps}")


def exact_estimate(query: Query, flow: bool) -> Array:
    """The mean of a Gaussian's clean latents, given noisy ones."""
    clean_share = 1 - query.sigma if flow else 1.0
    share = clean_share * DEVIATION**2 / (clean_share**2 * DEVIATION**2 + query.sigma**2)
    return (MEAN + share * (query.latents - clean_share * MEAN)).astype(np.float32)


def exact_end(query: Query) -> Array:
    """Where the ODE takes latents: what a consistency model is trained to say."""
    return (MEAN + (query.latents - MEAN) * (DEVIATION / math.hypot(DEVIATION, query.sigma))).astype(np.float32)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_gaussian_is_recovered(name: str) -> None:
    row = find_sampler(name)
    consistency = name in ("lcm", "tcd")
    trajectory = walk(name, 10 if consistency else 100)
    sampler = row.start(
        trajectory.initial_latents(noise(1, 0, SHAPE)), trajectory, 1.0 if name == "tcd" else None, draws()
    )
    final = run(sampler, exact_end if consistency else lambda query: exact_estimate(query, row.flow))
    assert final.mean() == pytest.approx(MEAN, abs=0.05)
    assert final.std() == pytest.approx(DEVIATION, abs=0.05)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_why_3m_sde_is_not_that_of_diffusers() -> None:
    """Theirs moves away from the Gaussian with more steps: test_parity_table.py compares with one sign turned."""
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="sample",
        algorithm_type="sde-dpmsolver++", solver_order=3, timestep_spacing="trailing",
    )  # fmt: skip
    draw = draws()
    scheduler.set_timesteps(200)
    x = torch.from_numpy(noise(1, 0, SHAPE))
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
        query = Query(x.numpy() * np.float32(math.hypot(1, sigma)), sigma, float(timestep))
        estimate = torch.from_numpy(exact_estimate(query, flow=False))
        x = scheduler.step(estimate, timestep, x, variance_noise=torch.from_numpy(draw())).prev_sample
    assert float(x.std()) > DEVIATION + 0.1


def test_noise_has_no_order_and_the_others_have_one() -> None:
    assert {name: row.order is None for name, row in SAMPLERS.items()} == {
        name: row.draws for name, row in SAMPLERS.items()
    }


@pytest.mark.parametrize("name", ORDERED)
def test_errors_fall_with_the_order(name: str) -> None:
    order = SAMPLERS[name].order
    assert order is not None
    measured = slope([error(name, steps) for steps in STEPS])
    assert measured > order - 0.1
    if order == 1:
        assert measured < 1.1
