"""The second stage: a text encoder and a U-Net that removes noise from latents under cross-attention."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel

from training import checkpoint
from training.captions import caption, tokenise
from training.latents import LATENT_SIZE, Frozen, LatentSet, draw_captions
from training.loop import Loop, state_file
from training.settings import DenoiserSettings, NoiseSettings, UNetSettings
from training.text_encoder import new_text_encoder, pretrain
from training.vae import grid

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
    """Learns to predict the velocity of noised latents from their captions (Salimans and Ho, 2022)."""

    name = "denoiser"

    def __init__(self, settings: DenoiserSettings, frozen: Frozen, latents: LatentSet, module: nn.Module) -> None:
        self._settings, self._frozen, self._latents = settings, frozen, latents
        self.module = module

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """Mean squared error of the prediction, whole and by quarters of the timesteps (q1: least noise)."""
        which = torch.randint(len(self._latents.pictures), (batch,), generator=generator)
        mean, deviation = self._latents.mean[which], self._latents.deviation[which]
        clean = mean + deviation * torch.randn(mean.shape, generator=generator)
        noise = torch.randn(mean.shape, generator=generator)
        timesteps = self._timesteps(generator, batch)
        scheduler = self._frozen.scheduler
        noisy = scheduler.add_noise(clean, noise, timesteps)
        target = scheduler.get_velocity(clean, noise, timesteps)
        prediction = self.module(noisy, timesteps, self._tokens(which, generator))
        errors = functional.mse_loss(prediction, target, reduction="none").mean(dim=(1, 2, 3))
        quarter = timesteps * 4 // scheduler.config.num_train_timesteps
        parts = {f"loss_q{q + 1}": errors[quarter == q].mean() for q in range(4)}
        return {"loss": errors.mean(), **parts}

    @torch.no_grad()
    def sample(self, averaged: nn.Module) -> Image.Image:
        """Pictures of training captions, seed 0, beside nothing: look whether they are what they should be."""
        assert isinstance(averaged, ConditionalDenoiser)
        shown = np.linspace(0, len(self._latents.pictures) - 1, 24).astype(int)
        prompts = [caption(self._latents.pictures[i]) for i in shown]
        return grid(
            draw(pipeline(averaged, self._frozen), prompts, [0] * len(prompts), guidance=_SAMPLE_GUIDANCE), columns=12
        )

    def _timesteps(self, generator: torch.Generator, batch: int) -> Tensor:
        # Evenly spread over the batch, with one random shift: less noise in the gradient than independent draws.
        total = self._frozen.scheduler.config.num_train_timesteps
        spread = (torch.arange(batch) + torch.rand(1, generator=generator)) / batch
        return (spread**self._settings.timestep_power * total).long().clamp(max=total - 1)

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
    return ConditionalDenoiser(text_encoder, _new_unet(settings.unet, frozen.vae, settings.text_encoder.width))


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


def _new_unet(settings: UNetSettings, vae: AutoencoderKL, conditioning_width: int) -> UNet2DConditionModel:
    down = tuple("CrossAttnDownBlock2D" if attended else "DownBlock2D" for attended in settings.attended)
    up = tuple("CrossAttnUpBlock2D" if attended else "UpBlock2D" for attended in reversed(settings.attended))
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        cross_attention_dim=conditioning_width,
        attention_head_dim=tuple(channels // settings.head_width for channels in settings.channels),
        norm_num_groups=settings.norm_groups,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=settings.summary_heads,
    )
