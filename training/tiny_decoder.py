"""Decoders smaller than the VAE's, in the same latent space, distilled from it and from the pictures."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from training.checkpoint import HISTORY_NAME, rewrite
from training.decoder_targets import DecoderTargets, decode
from training.loop import History, Loop
from training.pictures import PictureSet
from training.settings import DecoderSettings
from training.vae import gradient_difference, grid, pixels_to_tensor

_WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
_SHOWN = 12


def new_decoder(settings: DecoderSettings, vae: AutoencoderKL) -> AutoencoderTiny:
    """A decoder with random weights; as all of its class it takes scaled latents. Its encoder is for form only."""
    levels = len(vae.config.block_out_channels)
    torch.manual_seed(settings.loop.seed)
    return AutoencoderTiny(
        encoder_block_out_channels=(1,) * levels,
        num_encoder_blocks=(0,) * levels,
        decoder_block_out_channels=(settings.width,) * levels,
        num_decoder_blocks=settings.blocks,
        latent_channels=vae.config.latent_channels,
    )


class TinyDecoderTask:
    """Learns to decode latents into the true pictures, and into what the VAE's decoder makes of them."""

    def __init__(
        self, name: str, settings: DecoderSettings, vae: AutoencoderKL, targets: DecoderTargets, pictures: PictureSet
    ) -> None:
        self.name = f"{name}_decoder"
        self._settings, self._targets, self._vae = settings, targets, vae
        # over a third faster on the CPU than with the channels outermost
        self.module: nn.Module = new_decoder(settings, vae).to(memory_format=torch.channels_last)
        self._shown = pixels_to_tensor(pictures.pixels[pictures.held_out()[:_SHOWN]])

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """L1, weighted MSE and gradient difference to the true and the taught pictures; `psnr` to both, in dB."""
        targets = self._targets
        which = torch.randint(len(targets.mean), (batch,), generator=generator)
        noise = torch.randn(targets.mean[which].shape, generator=generator)
        latents = targets.mean[which] + targets.deviation[which] * noise
        decoded = _decoded(self.module, latents.contiguous(memory_format=torch.channels_last))
        true, squared = self._difference(decoded, pixels_to_tensor(targets.wanted[which]))
        taught, squared_taught = self._difference(decoded, pixels_to_tensor(targets.taught[which]))
        return {
            "loss": true + self._settings.taught_weight * taught,
            "psnr": -10 * torch.log10(squared / 4),
            "psnr_taught": -10 * torch.log10(squared_taught / 4),
        }

    @torch.no_grad()
    def sample(self, averaged: nn.Module) -> Image.Image:
        """Held-out pictures above what the VAE makes of them, above what the decoder makes of them."""
        assert isinstance(averaged, AutoencoderTiny)
        latents = self._vae.encode(self._shown).latent_dist.mean * self._vae.config.scaling_factor
        rows = [self._shown, decode(self._vae, latents), decode_tiny(averaged, latents)]
        return grid(torch.cat(rows), columns=_SHOWN)

    def _difference(self, decoded: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        squared = functional.mse_loss(decoded, pixels)
        loss = functional.l1_loss(decoded, pixels) + self._settings.squared_weight * squared
        return loss + self._settings.gradient_weight * gradient_difference(decoded, pixels), squared


@torch.no_grad()
def decode_tiny(decoder: AutoencoderTiny, latents: Tensor) -> Tensor:
    """A small decoder's pictures of scaled latents: [B, 3, 8H, 8W] in [-1, 1]."""
    return _decoded(decoder, latents).clamp(-1, 1)


def train(
    name: str,
    settings: DecoderSettings,
    vae: AutoencoderKL,
    targets: DecoderTargets,
    pictures: PictureSet,
    folder: Path,
) -> None:
    """Train a decoder, or go on training it; its averaged weights end in `folder`/checkpoint."""
    loop = Loop(TinyDecoderTask(name, settings, vae, targets, pictures), settings.loop, folder)

    def keep() -> None:
        assert isinstance(loop.averaged, AutoencoderTiny)
        save(loop.averaged, loop.history, folder / "checkpoint")

    loop.run(settings, keep)


def save(decoder: AutoencoderTiny, history: History, folder: Path) -> None:
    """Write float16 safetensors that diffusers reads, replacing `folder` when all is written.

    The encoder's weights are left out, for they are random: diffusers tells who loads the folder that they are new.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    decoder.save_pretrained(partial)
    weights = load_file(partial / _WEIGHTS_NAME)
    halves = {name: tensor.half().contiguous() for name, tensor in weights.items() if not name.startswith("encoder.")}
    save_file(halves, partial / _WEIGHTS_NAME, {"format": "pt"})
    # which diffusers writes, and warns of as unknown when it reads
    rewrite(partial / "config.json", block_out_channels=None, _name_or_path=None)
    (partial / HISTORY_NAME).write_text(json.dumps(asdict(history), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _decoded(decoder: nn.Module, latents: Tensor) -> Tensor:
    assert isinstance(decoder, AutoencoderTiny)
    pixels = decoder.decode(latents).sample
    assert isinstance(pixels, Tensor)
    return pixels
