"""Euler's and Heun's method, and Euler's with fresh noise."""

from diffusion.arrays import Array
from diffusion.samplers.coroutine import Draw, Query, Sampler, ancestral, require_draw
from diffusion.trajectory import Trajectory


def euler(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow the probability-flow ODE by Euler's method: Karras et al. 2022, algorithm 1 without its second half.

    Takes latents of any shape at the first sigma and returns them at the last sigma.
    """
    x = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        # In this order on purpose. At zero terminal SNR x is in the thousands and its rounding shows in the result;
        # the same order of operations as diffusers rounds the same way.
        slope = (x - denoised) / step.sigma
        x = x + slope * (step.sigma_next - step.sigma)
    return x


def heun(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow the probability-flow ODE by Heun's second-order method: Karras et al. 2022, algorithm 1.

    Two queries a step, but one in the last, which ends at sigma 0.
    """
    x: Array = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        slope = (x - denoised) / step.sigma
        length = step.sigma_next - step.sigma
        landed = x + slope * length
        if step.second is None:
            x = landed
            continue
        denoised = yield Query(landed, step.second.sigma, step.second.timestep)
        slope_there: Array = (landed - denoised) / step.second.sigma
        x = x + (slope + slope_there) * (length * 0.5)
    return x


def euler_ancestral(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    """Step by Euler's method further than asked and add fresh noise: the DDPM posterior in Karras' coordinate.

    Song et al. 2021, equation 12 with eta 1, the step linearised; the "ancestral" samplers of k-diffusion. Draws once
    a step, the last included, as diffusers does. Raises DiffusionError without `draw`.
    """
    return _euler_ancestral(latents, trajectory, require_draw(draw, "euler_ancestral"))


def _euler_ancestral(latents: Array, trajectory: Trajectory, draw: Draw) -> Sampler:
    x = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        down, up = ancestral(step.sigma, step.sigma_next)
        slope = (x - denoised) / step.sigma
        x = x + slope * (down - step.sigma) + draw() * up
    return x
