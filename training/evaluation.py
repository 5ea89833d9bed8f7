"""How good the bundled model is: the VAE's reconstruction, and whether pictures show what was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from rich.progress import track
from torch import Tensor

from training.captions import caption
from training.denoiser import draw
from training.latents import LatentSet
from training.pictures import Picture, PictureSet
from training.vae import in_bytes, pixels_to_tensor, psnr, reconstruct

NEAREST = 3


@dataclass(frozen=True)
class Fidelity:
    """Shares in [0, 1] of drawn pictures with a picture of the asked label among their three nearest."""

    asked: float
    shuffled: float
    guidance: float
    steps: int
    count: int


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKL, pictures: PictureSet) -> Tensor:
    """The PSNR in dB of each of the 200 pictures that the VAE never trained on, at 128x128."""
    held_out = pictures.held_out()
    values = []
    for part in track(np.array_split(held_out, 25), "reconstruction"):
        pixels = pixels_to_tensor(pictures.pixels[part])
        rebuilt = reconstruct(vae, pixels)
        values.append(psnr(in_bytes(rebuilt), pixels))
    return torch.cat(values)


@torch.no_grad()
def fidelity(
    pipe: StableDiffusionPipeline, latents: LatentSet, *, guidance: float, steps: int = 25, count: int = 200
) -> Fidelity:
    """Draw `count` fixed captions of as many labels with seed 0 and look for their labels among the nearest pictures.

    Nearest in the VAE's latent space, by Euclidean distance of the mean latents, among all pictures that the denoiser
    learned. `shuffled` compares every picture with the label of another caption, which must be near guessing.
    """
    asked = fixed_pictures(latents.pictures, count)
    drawn = []
    for part in track(np.array_split(np.arange(count), max(1, count // 20)), "drawing"):
        prompts = [caption(asked[i]) for i in part]
        drawn.append(draw(pipe, prompts, [0] * len(prompts), steps=steps, guidance=guidance))
    found = nearest_labels(pipe.vae, torch.cat(drawn), latents)
    labels = [picture.label for picture in asked]
    return Fidelity(
        asked=share_found(labels, found),
        # the labels are in random order, so the next caption is any other one
        shuffled=share_found([*labels[1:], labels[0]], found),
        guidance=guidance,
        steps=steps,
        count=count,
    )


def fixed_pictures(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """One picture each of `count` labels, chosen by seed 0; always the same ones for the same set."""
    random = np.random.default_rng(0)
    by_label: dict[str, list[Picture]] = {}
    for picture in pictures:
        by_label.setdefault(picture.label, []).append(picture)
    labels = random.choice(sorted(by_label), min(count, len(by_label)), replace=False)
    return [by_label[label][int(random.integers(len(by_label[label])))] for label in labels]


@torch.no_grad()
def nearest_labels(vae: AutoencoderKL, pixels: Tensor, latents: LatentSet) -> list[list[str]]:
    """The labels of the three training pictures nearest to each of [B, 3, H, W] pictures."""
    means = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(20)]) * vae.config.scaling_factor
    distances = torch.cdist(means.flatten(1), latents.mean.flatten(1))
    nearest = distances.topk(NEAREST, largest=False).indices.tolist()
    return [[latents.pictures[i].label for i in row] for row in nearest]


def share_found(asked: Sequence[str], found: Sequence[Sequence[str]]) -> float:
    """The share in [0, 1] of pictures whose asked label is among those found for it."""
    return sum(label in labels for label, labels in zip(asked, found, strict=True)) / len(asked)
