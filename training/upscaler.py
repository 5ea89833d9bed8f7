"""`emoji-x4`: latent diffusion from 32 to 128 pixels, conditioned on the small picture, its noise and a caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from training import checkpoint
from training.captions import caption
from training.latents import LatentSet, encode
from training.loop import Loop
from training.pictures import PictureSet
from training.prompts import Prompts
from training.settings import UpscalerSettings
from training.unet import new_unet
from training.vae import grid, pixels_to_tensor
from training.velocity import noised, velocity_losses

FACTOR = 4
GUIDANCE = 1.0  # the small picture says what to draw; guidance only hardens it
NOISE_LEVEL = 0
_SHOWN, _DRAWN = 12, 20


@dataclass(frozen=True)
class SmallSet:
    """Pictures for the upscaler: latents of the large ones and, in the same order, [N, 3, h, w] of the small ones."""

    latents: LatentSet
    small: Tensor


def reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures [B, H, W, 3] at a quarter of their size, by Pillow's bicubic filter."""
    size = pixels.shape[1] // FACTOR
    return _resized(pixels, size)


def bicubic(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures [B, h, w, 3] at four times their size, by Pillow's bicubic filter: what the upscaler must beat."""
    return _resized(small, small.shape[1] * FACTOR)


def small_set(vae: AutoencoderKL, pictures: PictureSet) -> SmallSet:
    """All pictures but those held out, and the same mirrored."""
    known = np.delete(np.arange(len(pictures.pictures)), pictures.held_out())
    pixels = pictures.pixels[known]
    both = PictureSet(np.concatenate([pixels, pixels[:, :, ::-1]]), [pictures.pictures[i] for i in known] * 2)
    # twice as fast on the CPU
    vae.to(memory_format=torch.channels_last)
    return SmallSet(encode(vae, both, range(len(both.pictures))), pixels_to_tensor(reduced(both.pixels)))


def new_pipeline(
    settings: UpscalerSettings, vae: AutoencoderKL, base: StableDiffusionPipeline
) -> StableDiffusionUpscalePipeline:
    """The pipeline with a random U-Net; text encoder, tokenizer and noise schedule are those of `base`."""
    torch.manual_seed(settings.loop.seed)
    latent_channels = vae.config.latent_channels
    unet = new_unet(
        settings.unet,
        sample_size=vae.config.sample_size // FACTOR,
        in_channels=latent_channels + 3,
        out_channels=latent_channels,
        conditioning_width=base.text_encoder.config.hidden_size,
        num_class_embeds=settings.most_noise + 1,
    )
    return StableDiffusionUpscalePipeline(
        vae=vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=unet,
        low_res_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        scheduler=base.scheduler,
        max_noise_level=settings.most_noise,
    )


class UpscalerTask:
    """Learns to predict the velocity of noised latents from the small picture, noised too, and the caption."""

    name = "upscaler"

    def __init__(
        self, settings: UpscalerSettings, pipe: StableDiffusionUpscalePipeline, learned: SmallSet, pictures: PictureSet
    ) -> None:
        self._settings, self._pipe, self._learned = settings, pipe, learned
        self._prompts = Prompts(pipe, learned.latents.pictures)
        self._shown = held_out_small(pictures, _SHOWN)
        self.module: nn.Module = pipe.unet.train()

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """Mean squared error of the predicted velocity, whole and by quarters of the timesteps."""
        settings, latents = self._settings, self._learned.latents
        which = torch.randint(len(latents.pictures), (batch,), generator=generator)
        mean = latents.mean[which]
        clean = mean + latents.deviation[which] * torch.randn(mean.shape, generator=generator)
        true = noised(self._pipe.scheduler, clean, generator, settings.timestep_power)
        small, levels = self._noised_small(which, generator)
        states = self._prompts.of(which, generator, settings.empty_chance)
        predicted = self.module(
            torch.cat([true.noisy, small], dim=1), true.timesteps, encoder_hidden_states=states, class_labels=levels
        ).sample
        return velocity_losses(predicted, true)

    @torch.no_grad()
    def sample(self, averaged: nn.Module) -> Image.Image:
        """Held-out pictures: small, enlarged by the bicubic filter, as drawn, and true."""
        assert isinstance(averaged, UNet2DConditionModel)
        pipe = StableDiffusionUpscalePipeline(**{**self._pipe.components, "unet": averaged})
        return side_by_side(self._shown, upscale(pipe, self._shown))

    def _noised_small(self, which: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        small = self._learned.small[which]
        # squared, because most small pictures have little noise
        share = torch.rand(len(which), generator=generator).square()
        levels = (share * (self._settings.most_noise + 1)).long()
        noise = torch.randn(small.shape, generator=generator)
        return self._pipe.low_res_scheduler.add_noise(small, noise, levels), levels


@dataclass(frozen=True)
class SmallPictures:
    """What to enlarge: uint8 [B, h, w, 3], the true large ones [B, H, W, 3], prompts and labels."""

    small: NDArray[np.uint8]
    true: NDArray[np.uint8]
    prompts: list[str]
    labels: list[str]

    def at(self, which: Sequence[int]) -> "SmallPictures":
        """Some of them."""
        chosen = list(which)
        return SmallPictures(
            self.small[chosen],
            self.true[chosen],
            [self.prompts[i] for i in chosen],
            [self.labels[i] for i in chosen],
        )


def held_out_small(pictures: PictureSet, count: int | None = None) -> SmallPictures:
    """The held-out pictures made small, the first `count` of them or all."""
    which = pictures.held_out()[:count]
    made = [pictures.pictures[i] for i in which]
    true = pictures.pixels[which]
    return SmallPictures(reduced(true), true, [caption(each) for each in made], [each.label for each in made])


@torch.no_grad()
def upscale(
    pipe: StableDiffusionUpscalePipeline,
    what: SmallPictures,
    *,
    steps: int = 25,
    guidance: float = GUIDANCE,
    noise_level: int = NOISE_LEVEL,
) -> Tensor:
    """Draw every picture large, picture k from seed k: [B, 3, H, W] in [-1, 1]."""
    pipe.set_progress_bar_config(disable=True)
    small = pixels_to_tensor(what.small)
    drawn = []
    for part in np.array_split(np.arange(len(small)), -(-len(small) // _DRAWN)):
        pictures = pipe(
            [what.prompts[i] for i in part],
            image=(small[part] + 1) / 2,
            num_inference_steps=steps,
            guidance_scale=guidance,
            noise_level=noise_level,
            generator=[torch.Generator().manual_seed(int(i)) for i in part],
            output_type="pt",
        ).images
        drawn.append(pictures * 2 - 1)
    return torch.cat(drawn)


def side_by_side(what: SmallPictures, drawn: Tensor) -> Image.Image:
    """Rows: the small pictures with their pixels as squares, the bicubic filter's, the drawn ones, the true ones."""
    squares = functional.interpolate(pixels_to_tensor(what.small), scale_factor=FACTOR)
    rows = [squares, pixels_to_tensor(bicubic(what.small)), drawn, pixels_to_tensor(what.true)]
    return grid(torch.cat(rows), columns=len(drawn))


def train(
    settings: UpscalerSettings, vae: AutoencoderKL, base: StableDiffusionPipeline, pictures: PictureSet, folder: Path
) -> None:
    """Train (or go on training) the upscaler's U-Net; all parts, with averaged weights, lie in `folder`/checkpoint."""
    pipe = new_pipeline(settings, vae, base)
    loop = Loop(UpscalerTask(settings, pipe, small_set(vae, pictures), pictures), settings.loop, folder)

    def keep() -> None:
        whole = StableDiffusionUpscalePipeline(
            **{**pipe.components, "unet": loop.averaged}, max_noise_level=pipe.config.max_noise_level
        )
        checkpoint.save(whole, loop.history, folder / "checkpoint")

    loop.run(settings, keep)


def load(folder: Path) -> StableDiffusionUpscalePipeline:
    """The pipeline of a checkpoint, computing in float32."""
    return StableDiffusionUpscalePipeline.from_pretrained(folder)


def _resized(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    resized = [Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC) for each in pixels]
    return np.stack([np.asarray(each) for each in resized])
