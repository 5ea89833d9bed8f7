"""The second stage: a text encoder and a U-Net that removes noise from latents under cross-attention."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.captions import TOKENS, caption
from training.loop import Loop
from training.pictures import Picture, PictureSet
from training.settings import DenoiserSettings, NoiseSettings, TextEncoderSettings, UNetSettings
from training.vae import grid, pixels_to_tensor

LATENT_SIZE = 16


@dataclass(frozen=True)
class LatentSet:
    """What the denoiser learns: pictures, and the mean and deviation of their scaled latents, both [N, C, H, W]."""

    pictures: list[Picture]
    mean: Tensor
    deviation: Tensor


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


@dataclass(frozen=True)
class Frozen:
    """What the denoiser's training takes as given."""

    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler


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
        return grid(draw(pipeline(averaged, self._frozen), prompts, seed=0), columns=12)

    def _timesteps(self, generator: torch.Generator, batch: int) -> Tensor:
        # Evenly spread over the batch, with one random shift: less noise in the gradient than independent draws.
        total = self._frozen.scheduler.config.num_train_timesteps
        spread = (torch.arange(batch) + torch.rand(1, generator=generator)) / batch
        return (spread * total).long().clamp(max=total - 1)

    def _tokens(self, which: Tensor, generator: torch.Generator) -> Tensor:
        random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        captions = [
            ""
            if random.random() < self._settings.empty_chance
            else caption(self._latents.pictures[i], random, self._settings.tag_chance)
            for i in which.tolist()
        ]
        return tokenise(self._frozen.tokenizer, captions)


def train(settings: DenoiserSettings, frozen: Frozen, latents: LatentSet, folder: Path, start: Path | None) -> None:
    """Train (or go on training) text encoder and denoiser; the averaged weights end in `folder`/checkpoint.

    Where `folder` holds no state, training begins with the averaged weights of the checkpoint `start`, or at random.
    """
    torch.manual_seed(settings.loop.seed)
    module = new_denoiser(settings, frozen) if start is None else load_denoiser(start)
    loop = Loop(DenoiserTask(settings, frozen, latents, module), settings.loop, folder)
    loop.run(settings)
    assert isinstance(loop.averaged, ConditionalDenoiser)
    pipeline(loop.averaged, frozen).save_pretrained(folder / "checkpoint")


def new_denoiser(settings: DenoiserSettings, frozen: Frozen) -> ConditionalDenoiser:
    """Text encoder and U-Net at random."""
    text_encoder = _new_text_encoder(settings.text_encoder, frozen.tokenizer)
    return ConditionalDenoiser(text_encoder, _new_unet(settings.unet, frozen.vae, settings.text_encoder.width))


def load_denoiser(checkpoint: Path) -> ConditionalDenoiser:
    """Text encoder and U-Net of a diffusers folder, in float32."""
    text_encoder = CLIPTextModel.from_pretrained(checkpoint / "text_encoder", dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=torch.float32)
    return ConditionalDenoiser(text_encoder, unet)


def scheduler_for(settings: NoiseSettings) -> DDIMScheduler:
    """The training noise schedule, in the form in which a checkpoint holds it."""
    return DDIMScheduler(
        num_train_timesteps=settings.num_train_timesteps,
        beta_schedule=settings.beta_schedule,
        prediction_type=settings.prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
    )


@torch.no_grad()
def latent_set(settings: DenoiserSettings, vae: AutoencoderKL, pictures: PictureSet) -> LatentSet:
    """Encode, once, the pictures that the denoiser learns."""
    kept = [i for i, p in enumerate(pictures.pictures) if p.drawn and p.style in settings.styles]
    if settings.most_pictures is not None:
        kept = kept[:: len(kept) // settings.most_pictures][: settings.most_pictures]
    means, deviations = [], []
    for part in np.array_split(np.array(kept), max(1, len(kept) // 32)):
        posterior = vae.encode(pixels_to_tensor(pictures.pixels[part])).latent_dist
        means.append(posterior.mean)
        deviations.append(posterior.std)
    factor = vae.config.scaling_factor
    return LatentSet([pictures.pictures[i] for i in kept], torch.cat(means) * factor, torch.cat(deviations) * factor)


def tokenise(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """[B, 32] token numbers, cut and padded."""
    ids = tokenizer(captions, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").input_ids
    assert isinstance(ids, Tensor)
    return ids


def pipeline(module: ConditionalDenoiser, frozen: Frozen) -> StableDiffusionPipeline:
    """All parts as diffusers' pipeline: what is saved as the checkpoint."""
    return StableDiffusionPipeline(
        vae=frozen.vae,
        text_encoder=module.text_encoder,
        tokenizer=frozen.tokenizer,
        unet=module.unet,
        scheduler=frozen.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@torch.no_grad()
def draw(
    pipe: StableDiffusionPipeline, prompts: list[str], *, seed: int, steps: int = 25, guidance: float = 3.0
) -> Tensor:
    """One picture a prompt, all from the noise of `seed`: [B, 3, H, W] in [-1, 1]."""
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    pictures = pipe(
        prompts,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generators,
        height=LATENT_SIZE * pipe.vae_scale_factor,
        width=LATENT_SIZE * pipe.vae_scale_factor,
        output_type="pt",
    ).images
    return pictures * 2 - 1


def _new_text_encoder(settings: TextEncoderSettings, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.width,
            intermediate_size=4 * settings.width,
            projection_dim=settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


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
    )
