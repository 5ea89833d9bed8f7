"""Inpainting by a network that knows of no mask: outside of it, the latents of a picture take the walk's place."""

from contextlib import closing
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from diffusion.arrays import Array
from diffusion.errors import DiffusionError
from diffusion.samplers import Sampler
from diffusion.trajectory import Trajectory

Mask: TypeAlias = npt.NDArray[np.bool_]


def inpaint(sampler: Sampler, trajectory: Trajectory, clean: Array, noise: Array, mask: Mask) -> Sampler:
    """Let `sampler` walk where `mask` [height, width] is True, and hold all else to `clean`, the latents of a picture.

    From the second query on, the network sees there `clean` with `noise` [batch, channels, height, width], as much as
    the walk has come to; the final latents are `clean` itself. Avrahami et al. 2023, blended latent diffusion, as
    diffusers does it for networks of four channels.
    The sampler is not told: its arithmetic is pixel by pixel, so what it holds outside reaches a pixel inside by the
    network alone. So this is as true of methods with a past, and a snapshot holds nothing more.
    Raises DiffusionError when the shapes differ or the mask is not of booleans.
    """
    if mask.dtype != np.bool_ or mask.shape != clean.shape[-2:]:
        raise DiffusionError("mask", f"{mask.dtype} {list(mask.shape)}", f"bool {list(clean.shape[-2:])}")
    # the shape of the noise is checked here, before the walk begins
    trajectory.noised(clean, noise)
    return _inpaint(sampler, trajectory, clean, noise, mask)


def _inpaint(sampler: Sampler, trajectory: Trajectory, clean: Array, noise: Array, mask: Mask) -> Sampler:
    with closing(sampler):
        # where the walk starts is the caller's: from the picture with noise, or from noise alone
        query = next(sampler)
        sigmas = iter(_sigmas(trajectory)[1:])
        while True:
            estimate = yield query
            try:
                query = sampler.send(estimate)
            except StopIteration as finished:
                return np.where(mask, finished.value, clean)
            held = trajectory.noised(clean, noise, next(sigmas))
            query = replace(query, latents=np.where(mask, query.latents, held))


def _sigmas(trajectory: Trajectory) -> list[float]:
    """How much noise each query has outside the mask.

    In a step's second query that of its landing: where the method asks in between, diffusers is ahead of it.
    """
    return [
        sigma
        for step in trajectory.steps
        for sigma in ((step.sigma,) if step.second is None else (step.sigma, step.sigma_next))
    ]
