"""How latents look: a projection to RGB, fitted to what the VAE decodes."""

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn.functional import avg_pool2d

from components.contract import LatentProjection, LatentSpace
from exporters.errors import ExportError

# A patch is wider than what surrounds a latent pixel weighs in its colour. Patches of 2 and 4 fitted drawn pictures
# worse, and so did synthetic pictures sent through the encoder (docs/exporting.md).
_PICTURES, _PATCHES, _PATCH = 32, 2, 8
_AT_ONCE = 4
# far below a step of 1/255, far above what another order of adding changes
_DECIMALS = 4


@torch.no_grad()
def fit_preview(vae: AutoencoderKL, space: LatentSpace) -> LatentProjection:
    """Fit RGB in -1..1 to denoiser-scale latents by least squares, one pixel for each latent pixel.

    Pictures of 2 by 2 patches, each of one standard normal latent, always the same ones, are decoded and averaged over
    the square of each latent pixel.

    Raises:
        ExportError: the VAE decodes them to something that is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(_PICTURES, space.channels, _PATCHES, _PATCHES, generator=generator)
    latents = patches.repeat_interleave(_PATCH, dim=2).repeat_interleave(_PATCH, dim=3)
    rgb = torch.cat([_averages(vae, some, space) for some in torch.split(latents, _AT_ONCE)])
    if not rgb.isfinite().all():
        raise ExportError("vae: decodes standard normal latents to values that are not finite")
    known = torch.cat([_pixels(latents), torch.ones(latents[:, :1].numel(), 1)], dim=1)
    *factors, bias = torch.linalg.lstsq(known.double(), _pixels(rgb).double()).solution.tolist()
    return LatentProjection(factors=tuple(map(_rounded, factors)), bias=_rounded(bias))


def _averages(vae: AutoencoderKL, latents: Tensor, space: LatentSpace) -> Tensor:
    (pixels,) = vae.decode(latents / space.scaling_factor + space.shift_factor, return_dict=False)
    return avg_pool2d(pixels.clamp(-1, 1), space.downscale)


def _pixels(maps: Tensor) -> Tensor:
    """Lay [pictures, channels, height, width] out as [pixels, channels]."""
    return maps.movedim(1, -1).flatten(end_dim=2)


def _rounded(rgb: list[float]) -> tuple[float, float, float]:
    red, green, blue = (round(value, _DECIMALS) for value in rgb)
    return red, green, blue
