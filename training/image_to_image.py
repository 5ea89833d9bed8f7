"""Image to image with the bundled model, which needs no training of its own: pictures of one style in another."""

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from torch import Tensor

from training.captions import caption
from training.evaluation import nearest_labels, share_found
from training.latents import latent_set
from training.page import Shown, evenly, table
from training.pictures import PictureSet
from training.settings import DenoiserSettings
from training.vae import grid, in_bytes, pixels_to_tensor, psnr

_GIVEN, _ASKED = "noto", "3d"
_STRENGTHS = (0.3, 0.5, 0.7, 0.9)
_COUNT, _SHOWN, _DRAWN, _STEPS = 60, 12, 20, 25


def image_to_image_report(base: StableDiffusionPipeline, pictures: PictureSet, guidance: float) -> Shown:
    """Pictures of a style that the denoiser never learned, redrawn in one that it did, at several strengths."""
    which = [i for i, each in enumerate(pictures.pictures) if each.drawn and each.style == _GIVEN]
    which = [which[place] for place in evenly(len(which), _COUNT)]
    given, labels = pixels_to_tensor(pictures.pixels[which]), [pictures.pictures[i].label for i in which]
    prompts = [caption(pictures.pictures[i]).replace(f"{_GIVEN} style", f"{_ASKED} style") for i in which]
    known = latent_set(DenoiserSettings(), base.vae, pictures)
    drawn = {strength: _redraw(base, given, prompts, strength, guidance) for strength in _STRENGTHS}
    rows = [
        [
            f"{strength:g}",
            f"{psnr(in_bytes(pixels), given).mean():.1f} dB",
            f"{share_found(labels, nearest_labels(base.vae, pixels, known)):.1%}",
        ]
        for strength, pixels in drawn.items()
    ]
    shown = evenly(_COUNT, _SHOWN)
    return Shown(
        table(["strength", "PSNR to the given picture", "label found"], rows),
        grid(torch.cat([each[shown] for each in (given, *drawn.values())]), columns=_SHOWN),
        f"Twelve pictures in noto's style; redrawn in 3d style at strength {', '.join(f'{s:g}' for s in _STRENGTHS)}",
        "The prompts and seeds, from left to right",
        [f"{prompts[i]} (seed {i})" for i in shown],
    )


@torch.no_grad()
def _redraw(
    base: StableDiffusionPipeline, given: Tensor, prompts: list[str], strength: float, guidance: float
) -> Tensor:
    pipe = StableDiffusionImg2ImgPipeline(**base.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    drawn = []
    for part in np.array_split(np.arange(len(prompts)), -(-len(prompts) // _DRAWN)):
        pixels = pipe(
            [prompts[i] for i in part],
            image=(given[part] + 1) / 2,
            strength=strength,
            num_inference_steps=_STEPS,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(int(i)) for i in part],
            output_type="pt",
        ).images
        drawn.append(pixels * 2 - 1)
    return torch.cat(drawn)
