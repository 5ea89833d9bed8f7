"""DPM-Solver++ as a multistep method: 2M, and 2M and 3M with noise."""

import math

from diffusion.arrays import Array
from diffusion.samplers.coroutine import Draw, Query, Sampler, require_draw, to_unit
from diffusion.trajectory import Trajectory

# below so many steps the last ones are taken with lower order
FEW_STEPS = 15


def dpmpp_2m(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow the probability-flow ODE by DPM-Solver++(2M): Lu et al. 2022b, algorithm 2.

    The step to sigma 0 is of first order, and below 15 steps the last one always is. Returns latents of unit variance,
    as all of this file: alpha * x0 + sqrt(1 - alpha^2) * noise.
    """
    return _dpmpp(latents, trajectory, 2, None)


def dpmpp_2m_sde(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    """Follow the reverse SDE by SDE-DPM-Solver++(2M): Lu et al. 2022b, with the midpoint correction.

    Draws once a step, the last included, as diffusers does. Raises DiffusionError without `draw`.
    """
    return _dpmpp(latents, trajectory, 2, require_draw(draw, "dpmpp_2m_sde"))


def dpmpp_3m_sde(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    """Follow the reverse SDE by SDE-DPM-Solver++(3M): Lu et al. 2022b, with one more derivative than 2M.

    As in k-diffusion, where it comes from. diffusers has the last coefficient's 1/2 with the other sign: it then does
    not vanish with the step, and more steps make a noisier picture. Draws once a step, the last included. Raises
    DiffusionError without `draw`.
    """
    return _dpmpp(latents, trajectory, 3, require_draw(draw, "dpmpp_3m_sde"))


def _dpmpp(latents: Array, trajectory: Trajectory, most: int, draw: Draw | None) -> Sampler:
    x = latents
    past: list[tuple[float, Array]] = []
    for position, step in enumerate(trajectory.steps):
        denoised = yield Query(x, step.sigma, step.timestep)
        past = [*past[1 - most :], (-math.log(step.sigma), denoised)]
        left = len(trajectory.steps) - position - 1
        order = min(len(past), _order(trajectory.planned, left, step.sigma_next, most))
        kept = step.sigma_next / step.sigma
        if draw is None:
            x = x * kept + denoised * (1 - kept)
            if order == 2:
                x = x + _slope(past, _length(step.sigma, step.sigma_next)) * ((1 - kept) / 2)
            continue
        # the square: the noise of the SDE takes away once more what the ODE does
        gone = 1 - kept**2
        x = x * kept**2 + denoised * gone
        if order > 1:
            x = x + _correction(past, _length(step.sigma, step.sigma_next), order, gone)
        x = x + draw() * (step.sigma_next * math.sqrt(gone))
    return to_unit(x, trajectory.steps[-1].sigma_next)


def _order(planned: int, left: int, sigma_next: float, most: int) -> int:
    if left == 0 and (sigma_next == 0 or planned < FEW_STEPS):
        return 1
    if left == 1 and planned < FEW_STEPS:
        return min(most, 2)
    return most


def _length(sigma: float, sigma_next: float) -> float:
    """The step in half the logarithm of the signal-to-noise ratio."""
    return math.log(sigma / sigma_next)


def _slope(past: list[tuple[float, Array]], length: float) -> Array:
    """The estimate's first divided difference over the last two queries, times the length of this step."""
    (before, earlier), (here, latest) = past[-2:]
    return (latest - earlier) * (length / (here - before))


def _correction(past: list[tuple[float, Array]], length: float, order: int, gone: float) -> Array:
    slope = _slope(past, length)
    if order == 2 or length == 0:
        return slope * (gone / 2)
    earlier_slope = _slope(past[:-1], length)
    ratio = (past[-1][0] - past[-2][0]) / length
    earlier_ratio = (past[-2][0] - past[-3][0]) / length
    bend = (slope - earlier_slope) / (ratio + earlier_ratio)
    double = 2 * length
    return (slope + bend * ratio) * (1 - gone / double) + bend * ((gone - double) / double**2 + 0.5)
