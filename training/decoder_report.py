"""How good the decoders of the VAE's latents are: the VAE's own, the small one and that for previews, side by side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from PIL import Image
from rich.progress import track
from torch import Tensor, nn

from training import page
from training.captions import caption
from training.decoder_targets import decode, walked
from training.evaluation import fixed_pictures
from training.latents import learned
from training.pictures import PictureSet
from training.settings import DenoiserSettings
from training.tiny_decoder import decode_tiny
from training.vae import grid, in_bytes, pixels_to_tensor, psnr

OWN = "KL"
DRAWN = 64
_SHOWN = 6
_STEPS = 25
# far from those of any walk that a decoder learned from
_FIRST_SEED = 1_000_000


@dataclass(frozen=True)
class Decoder:
    """A decoder's network, and how it makes pixels [B, 3, 8H, 8W] in [-1, 1] of scaled latents."""

    network: nn.Module
    decode: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Cost:
    """What one decoder takes: MB of graph and weights, and milliseconds of a 128x128 picture by number of threads."""

    megabytes: float
    milliseconds: Mapping[int, float]


@dataclass(frozen=True)
class Quality:
    """PSNR in dB of each picture in 8 bits: of held-out pictures to the true ones, of drawn latents to the VAE's."""

    parameters: int
    held_out: Tensor
    drawn: Tensor


def decoders(pipe: StableDiffusionPipeline, tiny: Mapping[str, AutoencoderTiny]) -> dict[str, Decoder]:
    """All decoders by name, the VAE's own first."""
    own = Decoder(nn.ModuleList([pipe.vae.post_quant_conv, pipe.vae.decoder]), partial(decode, pipe.vae))
    return {OWN: own, **{name: Decoder(vae.decoder, partial(decode_tiny, vae)) for name, vae in tiny.items()}}


def qualities(
    pipe: StableDiffusionPipeline, found: Mapping[str, Decoder], pictures: PictureSet, guidance: float
) -> dict[str, Quality]:
    """Measure every decoder on the 200 held-out pictures and on `DRAWN` latents that the denoiser makes."""
    held_out: dict[str, list[Tensor]] = {name: [] for name in found}
    for part in track(np.array_split(pictures.held_out(), 50), "held-out pictures"):
        pixels = pixels_to_tensor(pictures.pixels[part])
        latents = _encoded(pipe, pixels)
        for name, decoder in found.items():
            held_out[name].append(psnr(in_bytes(decoder.decode(latents)), pixels))
    drawn: dict[str, list[Tensor]] = {name: [] for name in found}
    for latents in drawn_latents(pipe, pictures, DRAWN, guidance).split(8):
        expected = in_bytes(found[OWN].decode(latents))
        for name, decoder in found.items():
            drawn[name].append(psnr(in_bytes(decoder.decode(latents)), expected))
    return {
        name: Quality(
            parameters=sum(parameter.numel() for parameter in decoder.network.parameters()),
            held_out=torch.cat(held_out[name]),
            drawn=torch.cat(drawn[name]),
        )
        for name, decoder in found.items()
    }


def drawn_latents(pipe: StableDiffusionPipeline, pictures: PictureSet, count: int, guidance: float) -> Tensor:
    """Scaled latents of `count` fixed captions, whole walks from seeds that no decoder learned from."""
    known = [pictures.pictures[i] for i in learned(DenoiserSettings(), pictures)]
    prompts = [caption(picture) for picture in fixed_pictures(known, count)]
    parts = np.array_split(np.arange(len(prompts)), -(-len(prompts) // 16))
    walks = [
        walked(pipe, [prompts[i] for i in part], (part + _FIRST_SEED).tolist(), _STEPS, guidance)
        for part in track(parts, "drawing")
    ]
    return torch.cat(walks)


def side_by_side(
    pipe: StableDiffusionPipeline, found: Mapping[str, Decoder], pictures: PictureSet, guidance: float
) -> Image.Image:
    """A row of originals, white where there is none, and a row for each decoder.

    The first half of the columns are held-out pictures, the other drawn latents; none is chosen.
    """
    held_out = pictures.held_out()
    which = held_out[np.linspace(0, len(held_out) - 1, _SHOWN).astype(int)]
    originals = pixels_to_tensor(pictures.pixels[which])
    latents = torch.cat([_encoded(pipe, originals), drawn_latents(pipe, pictures, _SHOWN, guidance)])
    rows = [
        torch.cat([originals, torch.ones_like(originals)]),
        *(decoder.decode(latents) for decoder in found.values()),
    ]
    return grid(torch.cat(rows), columns=len(latents))


def table(measured: Mapping[str, Quality], costs: Mapping[str, Cost]) -> str:
    """All figures as a table of Markdown, with times as ratios to the VAE's own decoder too."""
    threads = sorted(costs[OWN].milliseconds)
    heads = ["decoder", "parameters", "MB", "held-out pictures: mean PSNR", "median", "drawn latents, to KL: mean PSNR"]
    rows = []
    for name, quality in measured.items():
        taken = costs[name].milliseconds
        rows.append(
            [
                name,
                f"{quality.parameters / 1e3:,.0f} k",
                f"{costs[name].megabytes:.2f}",
                f"{quality.held_out.mean():.1f} dB",
                f"{quality.held_out.median():.1f} dB",
                "" if name == OWN else f"{quality.drawn.mean():.1f} dB",
                *(f"{taken[count]:.1f} ({costs[OWN].milliseconds[count] / taken[count]:.1f}x)" for count in threads),
            ]
        )
    return page.table([*heads, *(f"ms, {_threads(count)}" for count in threads)], rows)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


@torch.no_grad()
def _encoded(pipe: StableDiffusionPipeline, pixels: Tensor) -> Tensor:
    latents = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    assert isinstance(latents, Tensor)
    return latents
