"""Samplers of distilled consistency models: jump to the estimate, then back to less noise."""

import math

import numpy as np

from diffusion.arrays import Array
from diffusion.errors import DiffusionError, require_between
from diffusion.samplers.coroutine import Draw, Query, Sampler, require_draw, to_unit
from diffusion.trajectory import Trajectory

TCD_ETA = 0.3

_DATA_DEVIATION = 0.5
_TIMESTEP_SCALING = 10.0


def lcm(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    """Alternate the consistency function and fresh noise: Luo et al. 2023, algorithm 3 (multistep LCM sampling).

    The function is c_skip * x + c_out * estimate with the boundary condition of Song et al. 2023, appendix C, as
    diffusers scales it. Draws once a step, but none in the last. Raises DiffusionError without `draw`.
    """
    return _lcm(latents, trajectory, require_draw(draw, "lcm"))


def _lcm(latents: Array, trajectory: Trajectory, draw: Draw) -> Sampler:
    x = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        time = step.timestep * _TIMESTEP_SCALING
        skip = _DATA_DEVIATION**2 / (time**2 + _DATA_DEVIATION**2)
        out = time / math.hypot(time, _DATA_DEVIATION)
        x = denoised * out + to_unit(x, step.sigma) * skip
        if step is not trajectory.steps[-1]:
            x = x + draw() * step.sigma_next
    return x


def tcd(latents: Array, trajectory: Trajectory, eta: float, draw: Draw | None) -> Sampler:
    """Jump to less noise than the next step's, then add what is missing: Zheng et al. 2024, strategic sampling.

    `eta`, the paper's gamma, is 0 (no fresh noise) to 1 (as consistency models). Draws once a step if eta > 0, but none
    in the last, which ends at the first trained timestep. Returns latents of unit variance. Raises DiffusionError for
    eta out of range, or without `draw`.
    """
    require_between("eta", eta, 0.0, 1.0)
    if eta > 0 and draw is None:
        raise DiffusionError("draw", draw, f"a source of noise when eta={eta:g}")
    return _tcd(latents, trajectory, eta, draw if eta > 0 else None)


def _tcd(latents: Array, trajectory: Trajectory, eta: float, draw: Draw | None) -> Sampler:
    assert trajectory.noise_schedule is not None, "a plan knows its schedule"
    table = trajectory.noise_schedule.sigmas
    x = latents
    landings = [*(step.timestep for step in trajectory.steps[1:]), 0.0]
    for step, landing in zip(trajectory.steps, landings, strict=True):
        denoised = yield Query(x, step.sigma, step.timestep)
        # float32, as where diffusers rounds down: (1 - 0.3) * 490 is 343 there, and a little less in float64
        below = float(table[math.floor(float(np.float32(1 - eta) * np.float32(landing)))])
        x = denoised + (x - denoised) / step.sigma * below
        if step is not trajectory.steps[-1]:
            if draw is not None:
                x = x + draw() * math.sqrt(max(step.sigma_next**2 - below**2, 0.0))
        else:
            x = to_unit(x, below)
    return x
