"""Small previews of latents: one RGB pixel for each latent pixel, without the VAE."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from diffusion.arrays import Array
from diffusion.errors import DiffusionError

Bytes: TypeAlias = npt.NDArray[np.uint8]


def project(latents: Array, factors: Sequence[Sequence[float]], bias: Sequence[float]) -> Bytes:
    """Project denoiser-scale latents [B, channels, h, w] to pixels [B, h, w, 3], 0..255.

    rgb = sum over channels of latents[channel] * factors[channel] + bias, in -1..1; `factors` are [channels][3] and
    `bias` [3]. What lies outside is clipped, and what is no number is black. A row's bytes do not depend on the others.
    Raises DiffusionError when latents have another number of channels than factors.
    """
    if latents.ndim != 4 or latents.shape[1] != len(factors):
        raise DiffusionError("latents", f"shape {latents.shape}", f"[batch, {len(factors)}, height, width]")
    shape = (len(latents), *latents.shape[2:], 3)
    rgb: Array = np.broadcast_to(np.asarray(bias, dtype=np.float32), shape).copy()
    with np.errstate(invalid="ignore", over="ignore"):
        # channel by channel: a product of matrices may add up in another order for another batch
        for channel, row in enumerate(factors):
            rgb += latents[:, channel, :, :, np.newaxis] * np.asarray(row, dtype=np.float32)
    pixels = np.rint(np.clip(rgb * np.float32(0.5) + np.float32(0.5), 0, 1) * np.float32(255))
    return np.where(np.isnan(pixels), np.float32(0), pixels).astype(np.uint8)
