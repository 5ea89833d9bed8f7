"""The second stage: a text encoder and a U-Net that removes noise from latents under cross-attention."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from training import checkpoint
from training.captions import caption, tokenise
from training.latents import LATENT_SIZE, Frozen, LatentSet, draw_captions
from training.loop import Loop, state_file
from training.settings import DenoiserSettings, NoiseSettings
from training.text_encoder import new_text_encoder, pretrain
from training.unet import new_unet
from training.vae import grid
from training.velocity import noised, velocity_losses

_SAMPLE_GUIDANCE = 3.0


class ConditionalDenoiser(nn.Module):
    """Text encoder and U-Net as one module, so that one optimiser trains both."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, latents: Tensor, timesteps: Tensor, input_ids: Tensor) -> Tensor:
        """Predict for noisy [B, C, H, W] latents at [B] timesteps, given [B, 32] tokens."""
        hidden_states = self.text_encoder(input_ids).last_hidden_state
        prediction = self.unet(latents, timesteps, encoder_hidden_states=hidden_states).sample
        assert isinstance(prediction, Tensor)
        return prediction


class DenoiserTask:
    """Learns to predict the velocity of noised latents from their captions."""

    name = "denoiser"

    def __init__(self, settings: DenoiserSettings, frozen: Frozen, latents: LatentSet, module: nn.Module) -> None:
        self._settings, self._frozen, self._latents = settings, frozen, latents
        self.module = module

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """Mean squared error of the predicted velocity, whole and by quarters of the timesteps."""
        which = torch.randint(len(self._latents.pictures), (batch,), generator=generator)
        mean, deviation = self._latents.mean[which], self._latents.deviation[which]
        clean = mean + deviation * torch.randn(mean.shape, generator=generator)
        true = noised(self._frozen.scheduler, clean, generator, self._settings.timestep_power)
        prediction = self.module(true.noisy, true.timesteps, self._tokens(which, generator))
        return velocity_losses(prediction, true)

    @torch.no_grad()
    def sample(self, averaged: nn.Module) -> Image.Image:
        """Pictures of training captions, seed 0, beside nothing: look whether they are what they should be."""
        assert isinstance(averaged, ConditionalDenoiser)
        shown = np.linspace(0, len(self._latents.pictures) - 1, 24).astype(int)
        prompts = [caption(self._latents.pictures[i]) for i in shown]
        return grid(
            draw(pipeline(averaged, self._frozen), prompts, [0] * len(prompts), guidance=_SAMPLE_GUIDANCE), columns=12
        )

    def _tokens(self, which: Tensor, generator: torch.Generator) -> Tensor:
        settings = self._settings
        captions = draw_captions(self._latents, which, generator, settings.tag_chance, settings.empty_chance)
        return tokenise(self._frozen.tokenizer, captions)


def train(settings: DenoiserSettings, frozen: Frozen, latents: LatentSet, folder: Path, start: Path | None) -> None:
    """Train (or go on training) text encoder and denoiser; the averaged weights lie in `folder`/checkpoint.

    Where `folder` holds no state, training begins with the averaged weights of the checkpoint `start`, or at random
    with the pretraining of the text encoder.

    Raises:
        FileExistsError: `start` is given, and `folder` holds a state to go on from.
    """
    if start is not None and state_file(folder).exists():
        raise FileExistsError(f"{state_file(folder)}: training would go on from it; remove it to begin with {start}")
    torch.manual_seed(settings.loop.seed)
    module = new_denoiser(settings, frozen) if start is None else load_denoiser(start)
    if start is None:
        before = pretrain(module.text_encoder, settings, frozen, latents, folder / "text_encoder")
    else:
        before = checkpoint.history(start)
    loop = Loop(DenoiserTask(settings, frozen, latents, module), settings.loop, folder, before)

    def keep() -> None:
        assert isinstance(loop.averaged, ConditionalDenoiser)
        checkpoint.save(pipeline(loop.averaged, frozen), loop.history, folder / "checkpoint")

    loop.run(settings, keep)


def new_denoiser(settings: DenoiserSettings, frozen: Frozen) -> ConditionalDenoiser:
    """Text encoder and U-Net at random."""
    text_encoder = new_text_encoder(settings.text_encoder, frozen.tokenizer)
    latent_channels = frozen.vae.config.latent_channels
    unet = new_unet(
        settings.unet,
        sample_size=LATENT_SIZE,
        in_channels=latent_channels,
        out_channels=latent_channels,
        conditioning_width=settings.text_encoder.width,
    )
    return ConditionalDenoiser(text_encoder, unet)


def load_denoiser(start: Path) -> ConditionalDenoiser:
    """Text encoder and U-Net of a checkpoint, in float32 and ready to learn."""
    pipe = checkpoint.load(start)
    return ConditionalDenoiser(pipe.text_encoder.train(), pipe.unet.train())


def scheduler_for(settings: NoiseSettings) -> DDIMScheduler:
    """The training noise schedule, in the form in which a checkpoint holds it."""
    return DDIMScheduler(
        num_train_timesteps=settings.num_train_timesteps,
        beta_schedule=settings.beta_schedule,
        prediction_type=settings.prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
        # StableDiffusionPipeline insists on it; trailing timesteps have no offset
        steps_offset=1,
    )


def pipeline(module: ConditionalDenoiser, frozen: Frozen) -> StableDiffusionPipeline:
    """All parts as diffusers' pipeline: what is saved as the checkpoint."""
    return checkpoint.assemble(frozen.vae, module.text_encoder, frozen.tokenizer, module.unet, frozen.scheduler)


@torch.no_grad()
def draw(
    pipe: StableDiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], *, steps: int = 25, guidance: float
) -> Tensor:
    """One picture a prompt, each from the noise of its own seed: [B, 3, H, W] in [-1, 1]."""
    pipe.set_progress_bar_config(disable=True)
    pictures = pipe(
        list(prompts),
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        height=LATENT_SIZE * pipe.vae_scale_factor,
        width=LATENT_SIZE * pipe.vae_scale_factor,
        output_type="pt",
    ).images
    return pictures * 2 - 1
