"""DDIM and DDPM: the reverse process with any share of noise."""

import math

from diffusion.arrays import Array
from diffusion.errors import DiffusionError, require_between
from diffusion.samplers.coroutine import Draw, Query, Sampler, require_draw
from diffusion.trajectory import Trajectory


def ddim(latents: Array, trajectory: Trajectory, eta: float = 0.0, draw: Draw | None = None) -> Sampler:
    """Follow the generalised reverse process of Song et al. 2021, equations 12 and 16, at any noise share eta.

    `eta` is 0 (DDIM, deterministic) to 1 (DDPM). `draw` gives the next standard normal array of the latents' shape;
    it is called once for each step if eta > 0, the last step included, as diffusers does. Takes latents
    x0 + sigma * noise and returns alpha * x0 + sqrt(1 - alpha^2) * noise, which at a last sigma of 0 are one.
    Raises DiffusionError for eta out of range, or without `draw`.
    """
    require_between("eta", eta, 0.0, 1.0)
    if eta == 0:
        return _ddim(latents, trajectory, 0.0, None)
    if draw is None:
        raise DiffusionError("draw", draw, f"a source of noise when eta={eta:g}")
    return _ddim(latents, trajectory, eta, draw)


def _ddim(latents: Array, trajectory: Trajectory, eta: float, draw: Draw | None) -> Sampler:
    # Between steps the latents have unit variance: a step may land beside the sigma that the next one asks at, and it
    # is in this coordinate that diffusers hands them over unchanged.
    unit = latents / math.hypot(1.0, trajectory.steps[0].sigma)
    for step in trajectory.steps:
        x = unit * math.hypot(1.0, step.sigma)
        denoised = yield Query(x, step.sigma, step.timestep)
        # Equation 16 with variances divided by alpha^2. The estimate comes first, so x, which is huge at zero terminal
        # SNR, meets it only after division by sigma.
        fresh = eta * step.sigma_next * math.sqrt(1.0 - (step.sigma_next / step.sigma) ** 2)
        kept = math.sqrt(step.sigma_next**2 - fresh**2)
        x = denoised + (x - denoised) / step.sigma * kept
        if draw is not None:
            x = x + draw() * fresh
        unit = x / math.hypot(1.0, step.sigma_next)
    return unit


def ddpm(latents: Array, trajectory: Trajectory, draw: Draw | None) -> Sampler:
    """Sample the posterior of each step: Ho et al. 2020, algorithm 2, with the smaller of its two variances.

    It is DDIM at eta 1 that lands on the next step's timestep. Draws once a step but at timestep 0, as diffusers does.
    Raises DiffusionError without `draw`.
    """
    return _ddpm(latents, trajectory, require_draw(draw, "ddpm"))


def _ddpm(latents: Array, trajectory: Trajectory, draw: Draw) -> Sampler:
    x = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        share = step.sigma_next / step.sigma
        x = denoised + (x - denoised) / step.sigma * (step.sigma_next * share)
        if step.timestep > 0:
            x = x + draw() * (step.sigma_next * math.sqrt(1.0 - share**2))
    return x
