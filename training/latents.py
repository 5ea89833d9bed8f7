"""What the second stage learns from: the latents of the captioned pictures, made once with the frozen VAE."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor
from transformers import CLIPTokenizer

from training.captions import caption
from training.pictures import Picture, PictureSet
from training.settings import DenoiserSettings
from training.vae import pixels_to_tensor

LATENT_SIZE = 16


@dataclass(frozen=True)
class LatentSet:
    """What the denoiser learns: pictures, and the mean and deviation of their scaled latents, both [N, C, H, W]."""

    pictures: list[Picture]
    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Frozen:
    """What the denoiser's training takes as given."""

    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler


def latent_set(settings: DenoiserSettings, vae: AutoencoderKL, pictures: PictureSet) -> LatentSet:
    """Encode, once, the pictures that the denoiser learns."""
    return encode(vae, pictures, learned(settings, pictures))


def learned(settings: DenoiserSettings, pictures: PictureSet) -> list[int]:
    """The indices of the pictures that the denoiser learns."""
    kept = [i for i, p in enumerate(pictures.pictures) if p.drawn and p.style in settings.styles]
    if settings.most_pictures is not None:
        kept = kept[:: max(1, len(kept) // settings.most_pictures)][: settings.most_pictures]
    return kept


def learned_but_held_out(settings: DenoiserSettings, pictures: PictureSet) -> list[int]:
    """The indices of the pictures that the denoiser learns, without those that are held out from the VAE."""
    held_out = set(pictures.held_out().tolist())
    return [i for i in learned(settings, pictures) if i not in held_out]


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: PictureSet, which: Sequence[int]) -> LatentSet:
    """The pictures `which` with their latents."""
    means, deviations = [], []
    # activations of many pictures are beyond the CPU's caches: batches of 32 took twice the time
    for part in np.array_split(np.array(which), max(1, len(which) // 8)):
        posterior = vae.encode(pixels_to_tensor(pictures.pixels[part])).latent_dist
        means.append(posterior.mean)
        deviations.append(posterior.std)
    factor = vae.config.scaling_factor
    return LatentSet([pictures.pictures[i] for i in which], torch.cat(means) * factor, torch.cat(deviations) * factor)


def draw_captions(
    latents: LatentSet, which: Tensor, generator: torch.Generator, tag_chance: float, empty_chance: float = 0.0
) -> list[str]:
    """A caption for each of the pictures `which`, with tags or empty by chance."""
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    return [
        "" if random.random() < empty_chance else caption(latents.pictures[i], random, tag_chance)
        for i in which.tolist()
    ]
