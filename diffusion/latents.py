"""Latents out of the VAE encoder, between its scale and the denoiser's, and with noise added."""

import numpy as np

from diffusion.arrays import Array, PerRow, per_row
from diffusion.errors import DiffusionError

# the logarithms of variance that diffusers takes for any further out
_LEAST_LOG_VARIANCE = -30.0
_MOST_LOG_VARIANCE = 20.0


def sample(mean: Array, log_variance: Array, noise: Array) -> Array:
    """Take one of the latents that a VAE encoder finds likely: mean + deviation * noise, all of one shape.

    Kingma and Welling 2014, the reparameterisation. Raises DiffusionError when the shapes differ.
    """
    for field, array in (("log_variance", log_variance), ("noise", noise)):
        if array.shape != mean.shape:
            raise DiffusionError(field, f"shape {array.shape}", f"of the mean's shape {mean.shape}")
    bounded = np.clip(log_variance, np.float32(_LEAST_LOG_VARIANCE), np.float32(_MOST_LOG_VARIANCE))
    sampled: Array = mean + np.exp(np.float32(0.5) * bounded) * noise
    return sampled


def to_model(latents: Array, scaling_factor: float, shift_factor: float = 0.0) -> Array:
    """Bring the VAE encoder's latents to the denoiser's scale: (z - shift) * scaling, float32.

    Raises DiffusionError unless scaling_factor is positive and both are finite.
    """
    _check(scaling_factor, shift_factor)
    return (latents - np.float32(shift_factor)) * np.float32(scaling_factor)


def from_model(latents: Array, scaling_factor: float, shift_factor: float = 0.0) -> Array:
    """Bring the denoiser's latents to the VAE decoder's scale: z / scaling + shift, float32.

    Raises DiffusionError unless scaling_factor is positive and both are finite.
    """
    _check(scaling_factor, shift_factor)
    return latents / np.float32(scaling_factor) + np.float32(shift_factor)


def add_noise(latents: Array, noise: Array, sigma: PerRow) -> Array:
    """Noise clean latents to `sigma`, one number or [B]: x0 + sigma * noise, where image-to-image starts.

    Raises DiffusionError when the two shapes differ.
    """
    if latents.shape != noise.shape:
        raise DiffusionError("noise", f"shape {noise.shape}", f"of the latents' shape {latents.shape}")
    return latents + per_row("sigma", sigma, latents) * noise


def _check(scaling_factor: float, shift_factor: float) -> None:
    if not 0 < scaling_factor < np.inf:
        raise DiffusionError("scaling_factor", scaling_factor, "positive and finite")
    if not np.isfinite(shift_factor):
        raise DiffusionError("shift_factor", shift_factor, "finite")
