"""A picture that is drawn larger: as the denoiser sees it, small and with noise on it."""

import numpy as np

from components.contract import Contract
from components.messages import FloatArray, Pixels, Walk
from diffusion.noise import noise
from pipeline.planes import signed_planes
from pipeline.trajectories import noise_schedule


def noised_picture(pixels: Pixels, walk: Walk, contract: Contract) -> FloatArray:
    """Planes [1, 3, height, width] of a picture with the noise of the walk's noise level, its seed's first draw.

    sqrt(a) * x + sqrt(1 - a) * noise, a the share of signal at that timestep: Ho et al. 2020, equation 4, on the low
    resolution picture, as Ho et al. 2021, "Cascaded Diffusion Models", section 4.1.
    """
    assert contract.low_resolution_schedule is not None, "a denoiser that enlarges has one"
    assert walk.noise_level is not None, "a checked request has one"
    planes = signed_planes(pixels)
    left = noise_schedule(contract.low_resolution_schedule).alphas_cumprod.astype(np.float32)[walk.noise_level]
    drawn = noise(walk.seed, 0, planes.shape, walk.rng)
    noised: FloatArray = np.sqrt(left) * planes + np.sqrt(np.float32(1) - left) * drawn
    return noised
