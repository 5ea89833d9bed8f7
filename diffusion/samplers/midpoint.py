"""Methods that ask a second time between two sigmas: DPM-Solver-2, DPM-Solver++(2S) and their noisy kin."""

import math

from diffusion.arrays import Array
from diffusion.samplers.coroutine import Draw, Query, Sampler, ancestral, require_draw
from diffusion.trajectory import Step, Trajectory


def dpm2(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow the probability-flow ODE by the midpoint method, the midpoint that of log sigma.

    Karras et al. 2022, algorithm 2 without churn, with the midpoint of DPM-Solver-2 (Lu et al. 2022a, algorithm 1).
    Two queries a step, but one in the last, which ends at sigma 0.
    """
    return _dpm2(latents, trajectory, None)


def dpm2_ancestral(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    """Step by `dpm2` further than asked and add fresh noise, as k-diffusion's ancestral samplers do.

    The split is that of Song et al. 2021, equation 16, eta 1. Draws once a step, but none in the last.
    Raises DiffusionError without `draw`.
    """
    return _dpm2(latents, trajectory, require_draw(draw, "dpm2_ancestral"))


def _dpm2(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    x = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        slope = (x - denoised) / step.sigma
        if step.second is None:
            x = x + slope * (step.sigma_next - step.sigma)
            continue
        middle = x + slope * (step.second.sigma - step.sigma)
        denoised = yield Query(middle, step.second.sigma, step.second.timestep)
        down, up = (step.sigma_next, 0.0) if draw is None else ancestral(step.sigma, step.sigma_next)
        x = x + (middle - denoised) / step.second.sigma * (down - step.sigma)
        if draw is not None:
            x = x + draw() * up
    return x


def dpmpp_2s_ancestral(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    """Step by DPM-Solver++(2S) further than asked and add fresh noise.

    Lu et al. 2022b, algorithm 1 with r = 1/2, with the split of Song et al. 2021, equation 16, eta 1, as in
    k-diffusion; diffusers lacks it. Draws once a step, but none in the last. Raises DiffusionError without `draw`.
    """
    return _dpmpp_2s_ancestral(latents, trajectory, require_draw(draw, "dpmpp_2s_ancestral"))


def _dpmpp_2s_ancestral(latents: Array, trajectory: Trajectory, draw: Draw) -> Sampler:
    x = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        if step.second is None:
            x = _towards(denoised, x, step.sigma_next / step.sigma)
            continue
        middle = _towards(denoised, x, step.second.sigma / step.sigma)
        denoised = yield Query(middle, step.second.sigma, step.second.timestep)
        down, up = ancestral(step.sigma, step.sigma_next)
        x = _towards(denoised, x, down / step.sigma) + draw() * up
    return x


def dpmpp_sde(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    """Follow the reverse SDE by the stochastic DPM-Solver++(2S): Lu et al. 2022b, algorithm 1 with noise, r = 1/2.

    As in k-diffusion. Both halves of a step see one Brownian path, in sigma: the first draw is its increment down to
    the midpoint, the second that from there to the end, each divided by its standard deviation. The last step draws
    none. Raises DiffusionError without `draw`.
    """
    return _dpmpp_sde(latents, trajectory, require_draw(draw, "dpmpp_sde"))


def _dpmpp_sde(latents: Array, trajectory: Trajectory, draw: Draw) -> Sampler:
    x = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        if step.second is None:
            x = x + (x - denoised) / step.sigma * (step.sigma_next - step.sigma)
            continue
        down, up = ancestral(step.sigma, step.second.sigma)
        first = draw()
        middle = _towards(denoised, x, down / step.sigma) + first * up
        denoised = yield Query(middle, step.second.sigma, step.second.timestep)
        down, up = ancestral(step.sigma, step.sigma_next)
        x = _towards(denoised, x, down / step.sigma) + _whole_increment(step, first, draw()) * up
    return x


def _whole_increment(step: Step, first: Array, second: Array) -> Array:
    """The Brownian increment over the step, from those over its two parts, all with variance 1."""
    assert step.second is not None, "only steps of two queries have two parts"
    share = (step.sigma - step.second.sigma) / (step.sigma - step.sigma_next)
    return first * math.sqrt(share) + second * math.sqrt(1 - share)


def _towards(denoised: Array, x: Array, kept: float) -> Array:
    """Keep that share of x, and take the rest from the estimate: the exact step of a constant estimate."""
    return x * kept + denoised * (1 - kept)
