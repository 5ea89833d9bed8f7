"""The first stage: a KL-regularised autoencoder (Kingma and Welling, 2013; Rombach et al., 2022)."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from training.loop import Loop
from training.pictures import PictureSet
from training.settings import VaeSettings


def new_vae(settings: VaeSettings) -> AutoencoderKL:
    """A VAE without attention, one residual block a level, randomly initialised."""
    levels = len(settings.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=settings.channels,
        layers_per_block=1,
        latent_channels=settings.latent_channels,
        norm_num_groups=settings.norm_groups,
        mid_block_add_attention=False,
        sample_size=128,
    )


class VaeTask:
    """Learns to give back random crops of the training pictures."""

    name = "vae"

    def __init__(self, settings: VaeSettings, pictures: PictureSet) -> None:
        torch.manual_seed(settings.loop.seed)
        self._settings = settings
        self.module: nn.Module = new_vae(settings)
        held_out = pictures.held_out()
        self._pixels = np.delete(pictures.pixels, held_out, axis=0)
        self._shown = pixels_to_tensor(pictures.pixels[held_out[:24]])

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """L1 and weighted MSE, gradient difference and KL; `psnr` of the batch is in dB."""
        pixels = self._crops(generator, batch)
        noise = torch.randn(self._latent_shape(batch), generator=generator)
        rebuilt, mean, log_variance = _autoencode(self.module, pixels, noise)
        squared = functional.mse_loss(rebuilt, pixels)
        gradient = gradient_difference(rebuilt, pixels)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        settings = self._settings
        loss = functional.l1_loss(rebuilt, pixels) + settings.squared_weight * squared
        loss = loss + settings.gradient_weight * gradient + settings.kl_weight * divergence
        return {"loss": loss, "kl": divergence, "psnr": -10 * torch.log10(squared / 4)}

    @torch.no_grad()
    def sample(self, averaged: nn.Module) -> Image.Image:
        """Held-out pictures above what the VAE makes of them."""
        rebuilt = reconstruct(averaged, self._shown)
        return grid(torch.cat([self._shown[:12], rebuilt[:12], self._shown[12:], rebuilt[12:]]), columns=12)

    def _crops(self, generator: torch.Generator, batch: int) -> Tensor:
        size, crop = self._pixels.shape[1], self._settings.crop
        which = torch.randint(len(self._pixels), (batch,), generator=generator).tolist()
        corners = torch.randint(size - crop + 1, (batch, 2), generator=generator).tolist()
        crops = [self._pixels[i, y : y + crop, x : x + crop] for i, (y, x) in zip(which, corners, strict=True)]
        flip = torch.rand(batch, generator=generator) < 0.5
        pixels = pixels_to_tensor(np.stack(crops))
        return torch.where(flip[:, None, None, None], pixels.flip(3), pixels)

    def _latent_shape(self, batch: int) -> tuple[int, int, int, int]:
        side = self._settings.crop // 2 ** (len(self._settings.channels) - 1)
        return batch, self._settings.latent_channels, side, side


def train(settings: VaeSettings, pictures: PictureSet, folder: Path) -> None:
    """Train (or go on training) the VAE; its averaged weights end in `folder`/vae in the layout of diffusers."""
    task = VaeTask(settings, pictures)
    loop = Loop(task, settings.loop, folder)
    loop.run(settings)
    vae = loop.averaged
    assert isinstance(vae, AutoencoderKL)
    vae.register_to_config(scaling_factor=measured_scaling_factor(vae, pictures))
    if settings.scaling_factor is not None:
        rescale(vae, settings.scaling_factor)
    vae.save_pretrained(folder / "vae")


@torch.no_grad()
def measured_scaling_factor(vae: AutoencoderKL, pictures: PictureSet, count: int = 512) -> float:
    """One over the standard deviation of the latents, so that the denoiser sees about unit variance."""
    which = np.linspace(0, len(pictures.pictures) - 1, count).astype(int)
    means = [vae.encode(pixels_to_tensor(pictures.pixels[part])).latent_dist.mean for part in np.array_split(which, 16)]
    return float(1 / torch.cat(means).std())


@torch.no_grad()
def rescale(vae: AutoencoderKL, factor: float) -> None:
    """Change the size of a VAE's latents, and nothing else, so that `factor` is its scaling factor.

    Mean and deviation of the latents grow by the same number, which the first convolution of the decoder takes back.
    """
    growth = vae.config.scaling_factor / factor
    mean = slice(0, vae.config.latent_channels)
    vae.quant_conv.weight[mean] *= growth
    vae.quant_conv.bias[mean] *= growth
    vae.quant_conv.bias[vae.config.latent_channels :] += 2 * math.log(growth)
    vae.post_quant_conv.weight /= growth
    vae.register_to_config(scaling_factor=factor)


@torch.no_grad()
def reconstruct(vae: nn.Module, pixels: Tensor) -> Tensor:
    """Encode [B, 3, H, W] pixels in [-1, 1] to the mean latents and decode them again."""
    assert isinstance(vae, AutoencoderKL)
    rebuilt = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    assert isinstance(rebuilt, Tensor)
    return rebuilt.clamp(-1, 1)


def psnr(rebuilt: Tensor, pixels: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, for [B, 3, H, W] values in [-1, 1]."""
    return -10 * torch.log10((rebuilt - pixels).square().mean(dim=(1, 2, 3)) / 4)


def in_bytes(pixels: Tensor) -> Tensor:
    """Values in [-1, 1] as 8-bit pixels have them: what a person gets, and so what is compared."""
    return ((pixels + 1) * 127.5).round() / 127.5 - 1


def pixels_to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def tensor_to_pixels(pixels: Tensor) -> NDArray[np.uint8]:
    """Float [B, 3, H, W] in [-1, 1] to uint8 [B, H, W, 3]."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def grid(pixels: Tensor, columns: int) -> Image.Image:
    """Lay out [B, 3, H, W] pictures in rows of `columns`."""
    tiles = tensor_to_pixels(pixels)
    rows = [np.concatenate(list(tiles[i : i + columns]), axis=1) for i in range(0, len(tiles), columns)]
    return Image.fromarray(np.concatenate(rows, axis=0))


def gradient_difference(rebuilt: Tensor, pixels: Tensor) -> Tensor:
    """Mean L1 of how much neighbouring pixels' differences differ, in both directions."""
    difference = rebuilt - pixels
    return difference.diff(dim=3).abs().mean() + difference.diff(dim=2).abs().mean()


def _autoencode(vae: AutoencoderKL, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    posterior = vae.encode(pixels).latent_dist
    rebuilt = vae.decode(posterior.mean + posterior.std * noise).sample
    return rebuilt, posterior.mean, posterior.logvar
