"""Masked inpainting both ways: blending with the bundled denoiser, and the denoiser that is given the mask."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from training.evaluation import nearest_labels, share_found
from training.inpainting import InpaintingTasks, held_out_tasks, inpaint, inpainting_pipeline
from training.latents import LatentSet, latent_set
from training.page import Shown, evenly, table
from training.pictures import PictureSet
from training.settings import DenoiserSettings
from training.vae import grid, in_bytes, reconstruct

_SHOWN = 12


@dataclass(frozen=True)
class Seam:
    """How strong the step across the masks' borders is, and how far from the true picture's, both 0 to 255."""

    step: float
    difference: float


def inpainting_report(
    unet: UNet2DConditionModel, base: StableDiffusionPipeline, pictures: PictureSet, guidance: float
) -> Shown:
    """PSNR inside the mask, seam and the share found by label, of held-out pictures with what was drawn pasted in."""
    settings = DenoiserSettings()
    known = latent_set(settings, base.vae, pictures)
    rows, tiles, prompts = [], [], []
    sets = {
        "of the denoiser's styles": held_out_tasks(pictures, settings.styles),
        "the same, turned, moved, mirrored": held_out_tasks(pictures, settings.styles, random=np.random.default_rng(0)),
        "of a style that it never learned": held_out_tasks(pictures, ("noto",)),
    }
    for name, tasks in sets.items():
        drawn = {
            "blending": tasks.pasted(inpaint(inpainting_pipeline(base, base.unet), tasks, guidance=guidance)),
            "given the mask": tasks.pasted(inpaint(inpainting_pipeline(base, unet), tasks, guidance=guidance)),
            "the VAE, of the true picture": tasks.pasted(reconstruct(base.vae, tasks.pixels)),
            "the true picture": tasks.pixels,
        }
        what = f"{len(tasks.prompts)} {name}"
        rows += [_row(what, how, pixels, tasks, base, known) for how, pixels in drawn.items()]
        which = evenly(len(tasks.prompts), _SHOWN // len(sets))
        grids = (tasks.pixels, tasks.greyed(), drawn["blending"], drawn["given the mask"])
        tiles.append(torch.stack([each[which] for each in grids]))
        prompts += [f"{tasks.prompts[i]} (seed {i})" for i in which]
    heads = ["held-out pictures", "drawn by", "PSNR inside", "step across the border", "off the true by", "label found"]
    return Shown(
        table(heads, rows),
        grid(torch.cat(tiles, dim=1).flatten(0, 1), columns=_SHOWN),
        "Held-out pictures, the middle ones moved; what is to be drawn; by blending; by the denoiser given the mask",
        "The prompts and seeds, from left to right",
        prompts,
    )


def psnr_inside(drawn: Tensor, tasks: InpaintingTasks) -> Tensor:
    """The PSNR in dB of each picture over the pixels of its mask, for [B, 3, H, W] values in [-1, 1]."""
    squared = ((in_bytes(drawn) - tasks.pixels).square() * tasks.masks).sum(dim=(1, 2, 3))
    return -10 * torch.log10(squared / (3 * tasks.masks.sum(dim=(1, 2, 3))) / 4)


def seam(drawn: Tensor, tasks: InpaintingTasks) -> Seam:
    """Compare neighbouring pixels of which one is inside the mask and one is not, along rows and along columns."""
    steps, differences = [], []
    for dim in (2, 3):
        border = tasks.masks.diff(dim=dim).abs().bool().expand_as(tasks.pixels.diff(dim=dim))
        ours, true = (in_bytes(each).diff(dim=dim)[border] * 127.5 for each in (drawn, tasks.pixels))
        steps.append(ours.abs())
        differences.append((ours - true).abs())
    return Seam(float(torch.cat(steps).mean()), float(torch.cat(differences).mean()))


def _row(
    name: str, how: str, pixels: Tensor, tasks: InpaintingTasks, base: StableDiffusionPipeline, known: LatentSet
) -> list[str]:
    inside, border = psnr_inside(pixels, tasks), seam(pixels, tasks)
    share = share_found(tasks.labels, nearest_labels(base.vae, pixels, known))
    exact = bool(torch.isinf(inside).all())
    return [
        name,
        how,
        "" if exact else f"{inside.mean():.1f} dB",
        f"{border.step:.1f}",
        "" if exact else f"{border.difference:.1f}",
        f"{share:.1%}",
    ]
