"""A mask-conditioned denoiser: the bundled U-Net, which is also given the mask and the latents of what is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from training import checkpoint
from training.captions import caption
from training.latents import LATENT_SIZE, LatentSet, encode, learned_but_held_out
from training.loop import Loop
from training.masks import part_mask, training_mask
from training.moving import moved, with_moved
from training.pictures import SIZE, PictureSet
from training.prompts import Prompts
from training.settings import DenoiserSettings, InpaintingSettings
from training.vae import grid, pixels_to_tensor
from training.velocity import noised, velocity_losses

_SHOWN, _ENCODED = 12, 16
_SAMPLE_GUIDANCE = 2.0


@dataclass(frozen=True)
class MaskedSet:
    """Pictures with masks: row i belongs to picture `which[i]` of `latents`.

    `masks` [N, 1, h, w] at the latents' size, 1 where something is to be drawn; `mean` and `deviation` [N, C, h, w] of
    the scaled latents of the picture with grey in place of that.
    """

    latents: LatentSet
    which: Tensor
    masks: Tensor
    mean: Tensor
    deviation: Tensor


def new_masked_unet(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A U-Net that computes the same: its further inputs, mask and latents of the masked picture, weigh nothing yet."""
    latent_channels = unet.config.in_channels
    masked = UNet2DConditionModel.from_config(unet.config, in_channels=2 * latent_channels + 1)
    weights = unet.state_dict()
    kernel = weights["conv_in.weight"]
    more = kernel.new_zeros(len(kernel), latent_channels + 1, *kernel.shape[2:])
    masked.load_state_dict({**weights, "conv_in.weight": torch.cat([kernel, more], dim=1)})
    return masked


def masked_set(settings: InpaintingSettings, pipe: StableDiffusionPipeline, pictures: PictureSet) -> MaskedSet:
    """Every picture that the bundled denoiser learned but those held out, with random masks.

    Each comes as it is and `settings.moved` times changed, and each of these with `settings.masks` masks. From the
    pictures as they are, little would be learned of what is kept: the denoiser knows them from their captions.
    """
    made = with_moved(pictures, learned_but_held_out(DenoiserSettings(), pictures), settings.moved, settings.loop.seed)
    # twice as fast on the CPU
    pipe.vae.to(memory_format=torch.channels_last)
    latents = encode(pipe.vae, made, range(len(made.pictures)))
    random = np.random.default_rng(settings.loop.seed)
    which = np.tile(np.arange(len(made.pictures)), settings.masks)
    masks, means, deviations = [], [], []
    for part in track(np.array_split(which, -(-len(which) // _ENCODED)), "masked pictures"):
        mask = torch.from_numpy(np.stack([training_mask(random, SIZE) for _ in part]))[:, None]
        masks.append(at_latent_size(mask))
        mean, deviation = _encoded(pipe, pixels_to_tensor(made.pixels[part]), mask)
        means.append(mean)
        deviations.append(deviation)
    return MaskedSet(latents, torch.from_numpy(which), torch.cat(masks), torch.cat(means), torch.cat(deviations))


def at_latent_size(masks: Tensor) -> Tensor:
    """[B, 1, h, w] of [B, 1, H, W] masks, by the nearest pixel, as diffusers' pipeline has it."""
    return functional.interpolate(masks, size=(LATENT_SIZE, LATENT_SIZE))


class InpaintingTask:
    """Learns to predict the velocity of noised latents from caption, mask and what is kept of the picture."""

    name = "inpainting"

    def __init__(
        self, settings: InpaintingSettings, pipe: StableDiffusionPipeline, masked: MaskedSet, pictures: PictureSet
    ) -> None:
        self._settings, self._pipe, self._masked = settings, pipe, masked
        self._prompts = Prompts(pipe, masked.latents.pictures)
        random = np.random.default_rng(settings.loop.seed)
        self._shown = held_out_tasks(pictures, DenoiserSettings().styles, _SHOWN, random)
        self.module: nn.Module = new_masked_unet(pipe.unet).train()

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """Mean squared error of the predicted velocity, whole and by quarters of the timesteps."""
        masked, settings = self._masked, self._settings
        rows = torch.randint(len(masked.which), (batch,), generator=generator)
        which = masked.which[rows]
        clean = _sampled(masked.latents.mean[which], masked.latents.deviation[which], generator)
        kept = _sampled(masked.mean[rows], masked.deviation[rows], generator)
        true = noised(self._pipe.scheduler, clean, generator, settings.timestep_power)
        states = self._prompts.of(which, generator, settings.empty_chance)
        inputs = torch.cat([true.noisy, masked.masks[rows], kept], dim=1)
        return velocity_losses(self.module(inputs, true.timesteps, states).sample, true)

    @torch.no_grad()
    def sample(self, averaged: nn.Module) -> Image.Image:
        """Held-out pictures, the same with grey to be drawn, and what is drawn."""
        assert isinstance(averaged, UNet2DConditionModel)
        shown = self._shown
        drawn = inpaint(inpainting_pipeline(self._pipe, averaged), shown, guidance=_SAMPLE_GUIDANCE)
        return grid(torch.cat([shown.pixels, shown.greyed(), drawn]), columns=_SHOWN)


@dataclass(frozen=True)
class InpaintingTasks:
    """What to inpaint: [B, 3, H, W] pixels in [-1, 1], [B, 1, H, W] masks, prompts, and their labels."""

    pixels: Tensor
    masks: Tensor
    prompts: list[str]
    labels: list[str]

    def greyed(self) -> Tensor:
        """The pictures with grey where something is to be drawn."""
        return self.pixels * (1 - self.masks)

    def pasted(self, drawn: Tensor) -> Tensor:
        """What was drawn inside the masks, the pictures themselves around it."""
        return torch.where(self.masks.bool(), drawn, self.pixels)


def held_out_tasks(
    pictures: PictureSet, styles: tuple[str, ...], count: int | None = None, random: np.random.Generator | None = None
) -> InpaintingTasks:
    """Held-out pictures of these styles, of things that the denoiser draws, moved by `random` if it is given.

    Each has a mask of its own.
    """
    which = [i for i in pictures.held_out() if pictures.pictures[i].drawn and pictures.pictures[i].style in styles]
    which = which[:count]
    pixels = pictures.pixels[which] if random is None else moved(pictures.pixels[which], random)
    masks = np.stack([part_mask(np.random.default_rng(int(i)), SIZE) for i in which])
    return InpaintingTasks(
        pixels_to_tensor(pixels),
        torch.from_numpy(masks)[:, None],
        [caption(pictures.pictures[i]) for i in which],
        [pictures.pictures[i].label for i in which],
    )


def inpainting_pipeline(pipe: StableDiffusionPipeline, unet: UNet2DConditionModel) -> StableDiffusionInpaintPipeline:
    """The inpainting pipeline with this U-Net: four input channels blend, nine are conditioned on the mask."""
    parts = {**pipe.components, "unet": unet}
    return StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)


@torch.no_grad()
def inpaint(
    pipe: StableDiffusionInpaintPipeline, tasks: InpaintingTasks, *, steps: int = 25, guidance: float
) -> Tensor:
    """Draw every task, task k from seed k: [B, 3, H, W] in [-1, 1], as decoded, also around the mask."""
    pipe.set_progress_bar_config(disable=True)
    drawn = []
    for part in np.array_split(np.arange(len(tasks.prompts)), -(-len(tasks.prompts) // _ENCODED)):
        pictures = pipe(
            [tasks.prompts[i] for i in part],
            image=(tasks.pixels[part] + 1) / 2,
            mask_image=tasks.masks[part],
            height=SIZE,
            width=SIZE,
            strength=1.0,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(int(i)) for i in part],
            output_type="pt",
        ).images
        drawn.append(pictures * 2 - 1)
    return torch.cat(drawn)


def train(settings: InpaintingSettings, pipe: StableDiffusionPipeline, pictures: PictureSet, folder: Path) -> None:
    """Train (or go on training) the mask-conditioned U-Net; its averaged weights lie in `folder`/unet."""
    torch.manual_seed(settings.loop.seed)
    task = InpaintingTask(settings, pipe, masked_set(settings, pipe, pictures), pictures)
    loop = Loop(task, settings.loop, folder)

    def keep() -> None:
        checkpoint.save(loop.averaged, loop.history, folder / "unet")

    loop.run(settings, keep)


@torch.no_grad()
def _encoded(pipe: StableDiffusionPipeline, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    posterior = pipe.vae.encode(pixels * (1 - masks)).latent_dist
    factor = pipe.vae.config.scaling_factor
    return posterior.mean * factor, posterior.std * factor


def _sampled(mean: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
    return mean + deviation * torch.randn(mean.shape, generator=generator)
