"""The text encoder, and its pretraining: alone, it learns to foretell a picture's latents from the caption."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.captions import TOKENS, caption, tokenise
from training.latents import Frozen, LatentSet, draw_captions
from training.loop import History, Loop
from training.settings import DenoiserSettings, TextEncoderSettings
from training.vae import grid


class LatentProphet(nn.Module):
    """A text encoder with one linear layer that makes mean latents of the mean of its hidden states."""

    def __init__(self, text_encoder: CLIPTextModel, shape: torch.Size) -> None:
        super().__init__()
        self.text_encoder, self._shape = text_encoder, shape
        self.head = nn.Linear(text_encoder.config.hidden_size, shape.numel())

    def forward(self, input_ids: Tensor) -> Tensor:
        """Foretell [B, C, H, W] latents from [B, 32] tokens."""
        hidden_states = self.text_encoder(input_ids).last_hidden_state
        latents = self.head(hidden_states.mean(dim=1))
        assert isinstance(latents, Tensor)
        return latents.unflatten(1, self._shape)


class TextEncoderTask:
    """Learns which picture a caption means, at a fraction of the cost of learning it through the U-Net.

    What it must foretell is what the denoiser must from pure noise: the mean of all latents that the caption allows.
    """

    name = "text_encoder"

    def __init__(
        self, text_encoder: CLIPTextModel, settings: DenoiserSettings, frozen: Frozen, latents: LatentSet
    ) -> None:
        self._settings, self._frozen, self._latents = settings, frozen, latents
        self.module: nn.Module = LatentProphet(text_encoder, latents.mean.shape[1:])

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """Mean squared error of the foretold latents."""
        which = torch.randint(len(self._latents.pictures), (batch,), generator=generator)
        captions = draw_captions(self._latents, which, generator, self._settings.tag_chance)
        foretold = self.module(tokenise(self._frozen.tokenizer, captions))
        return {"loss": functional.mse_loss(foretold, self._latents.mean[which])}

    @torch.no_grad()
    def sample(self, averaged: nn.Module) -> Image.Image:
        """The pictures that captions foretell, decoded."""
        shown = np.linspace(0, len(self._latents.pictures) - 1, 24).astype(int)
        captions = [caption(self._latents.pictures[i]) for i in shown]
        vae = self._frozen.vae
        assert isinstance(vae, AutoencoderKL)
        latents = averaged(tokenise(self._frozen.tokenizer, captions))
        return grid(vae.decode(latents / vae.config.scaling_factor).sample, columns=12)


def pretrain(
    text_encoder: CLIPTextModel, settings: DenoiserSettings, frozen: Frozen, latents: LatentSet, folder: Path
) -> History:
    """Train `text_encoder`, or go on where `folder` holds a state; it ends with the averaged weights.

    The history has no samples: the denoiser has not seen any.
    """
    task = TextEncoderTask(text_encoder, settings, frozen, latents)
    loop = Loop(task, settings.text_encoder.loop, folder)
    loop.run(settings)
    assert isinstance(loop.averaged, LatentProphet)
    text_encoder.load_state_dict(loop.averaged.text_encoder.state_dict())
    return History(0, loop.history.hours)


def new_text_encoder(settings: TextEncoderSettings, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A text encoder with random weights."""
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
