"""What small decoders learn from: latents, and the pictures that the VAE's own decoder makes of them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from training.captions import caption, tokenise
from training.latents import LATENT_SIZE, LatentSet, encode, learned
from training.pictures import PictureSet
from training.settings import DecoderTargetsSettings, DenoiserSettings
from training.vae import tensor_to_pixels

_BATCH, _DECODED = 32, 4


@dataclass(frozen=True)
class DecoderTargets:
    """Scaled latents, float32 [N, C, H, W], and two pictures of each, uint8 [N, 8H, 8W, 3].

    `wanted` is the true picture where there is one; `taught` is what the VAE decodes of the mean latents. Latents that
    the denoiser made have no other picture than that, and no deviation.
    """

    mean: Tensor
    deviation: Tensor
    wanted: NDArray[np.uint8]
    taught: NDArray[np.uint8]


def decoder_targets(
    settings: DecoderTargetsSettings, pipe: StableDiffusionPipeline, pictures: PictureSet, folder: Path
) -> DecoderTargets:
    """All pictures but the held-out ones, and the denoiser's latents; made once for these settings and weights.

    The denoiser is asked for no held-out picture either: its latents of one would be much like those of the picture.
    """
    kept = np.delete(np.arange(len(pictures.pictures)), pictures.held_out())
    known = PictureSet(pictures.pixels[kept], [pictures.pictures[i] for i in kept])
    file = folder / f"targets-{_digest(settings, pipe)}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.stem}.partial.npz")
        np.savez(partial, **_made(settings, pipe, known))  # type: ignore[arg-type] # its stub takes the names for flags
        partial.replace(file)
    with np.load(file) as arrays:
        taught = arrays["taught"]
        wanted = np.concatenate([known.pixels, taught[len(known.pixels) :]])
        return DecoderTargets(torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["deviation"]), wanted, taught)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """The VAE's own pictures of scaled latents: [B, 3, 8H, 8W] in [-1, 1]."""
    pixels = vae.decode(latents / vae.config.scaling_factor).sample
    assert isinstance(pixels, Tensor)
    return pixels.clamp(-1, 1)


@torch.no_grad()
def walked(pipe: StableDiffusionPipeline, prompts: list[str], seeds: list[int], steps: int, guidance: float) -> Tensor:
    """The scaled latents at the end of one walk a prompt, each from the noise of its own seed."""
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(
        prompts,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        height=LATENT_SIZE * pipe.vae_scale_factor,
        width=LATENT_SIZE * pipe.vae_scale_factor,
        output_type="latent",
    ).images
    assert isinstance(latents, Tensor)
    return latents


def _made(
    settings: DecoderTargetsSettings, pipe: StableDiffusionPipeline, known: PictureSet
) -> dict[str, NDArray[np.float32] | NDArray[np.uint8]]:
    # three times as fast on the CPU, in small batches: whole activations at full size are beyond the caches
    pipe.vae.to(memory_format=torch.channels_last)
    encoded = encode(pipe.vae, known, range(len(known.pictures)))
    which = learned(DenoiserSettings(), known)
    asked = LatentSet([encoded.pictures[i] for i in which], encoded.mean[which], encoded.deviation[which])
    mean = torch.cat([encoded.mean, *_walks(settings, pipe, asked), *_foretold(settings, pipe, asked)])
    deviation = torch.zeros_like(mean)
    deviation[: len(encoded.mean)] = encoded.deviation
    taught = [tensor_to_pixels(decode(pipe.vae, part)) for part in track(mean.split(_DECODED), "decoding")]
    return {"mean": mean.numpy(), "deviation": deviation.numpy(), "taught": np.concatenate(taught)}


def _walks(settings: DecoderTargetsSettings, pipe: StableDiffusionPipeline, asked: LatentSet) -> Iterator[Tensor]:
    which = np.random.default_rng(settings.seed).integers(len(asked.pictures), size=settings.walks)
    for seeds in track(_parts(settings.walks), "walks"):
        prompts = [caption(asked.pictures[which[seed]]) for seed in seeds]
        yield walked(pipe, prompts, seeds.tolist(), settings.steps, settings.guidance)


@torch.no_grad()
def _foretold(settings: DecoderTargetsSettings, pipe: StableDiffusionPipeline, asked: LatentSet) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(settings.seed)
    for part in track(_parts(settings.foretold), "foretold latents"):
        which = torch.randint(len(asked.pictures), (len(part),), generator=generator)
        timestep = torch.randint(pipe.scheduler.config.num_train_timesteps, (len(part),), generator=generator)
        latents = asked.mean[which]
        noisy = pipe.scheduler.add_noise(latents, torch.randn(latents.shape, generator=generator), timestep)
        ids = tokenise(pipe.tokenizer, [caption(asked.pictures[i]) for i in which.tolist()])
        velocity = pipe.unet(noisy, timestep, pipe.text_encoder(ids).last_hidden_state).sample
        # the velocity of v is x0, as alpha^2 + sigma^2 = 1: v = alpha noise - sigma x0, x0 = alpha noisy - sigma v
        yield pipe.scheduler.get_velocity(velocity, noisy, timestep)


def _parts(count: int) -> list[NDArray[np.intp]]:
    return [part for part in np.array_split(np.arange(count), -(-count // _BATCH) or 1) if len(part)]


def _digest(settings: DecoderTargetsSettings, pipe: StableDiffusionPipeline) -> str:
    """Twelve hexadecimal digits that change with the settings and with the weights of the VAE and denoiser."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for part in (pipe.vae, pipe.text_encoder, pipe.unet):
        for tensor in part.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]
