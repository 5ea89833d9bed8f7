"""How well pictures follow the edges that were asked for, with the adapter and without."""

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, T2IAdapter
from torch import Tensor

from training.adapter import EdgeTasks, adapter_pipeline, draw_along, held_out_edges
from training.edges import agreement, edges
from training.evaluation import nearest_labels, share_found
from training.latents import LatentSet, latent_set
from training.page import Shown, evenly, table
from training.pictures import PictureSet
from training.settings import DenoiserSettings
from training.vae import grid, pixels_to_tensor, reconstruct, tensor_to_pixels

_SHOWN = 12


def adapter_report(adapter: T2IAdapter, base: StableDiffusionPipeline, pictures: PictureSet, guidance: float) -> Shown:
    """F1 of edges and the share found by label, on held-out pictures as they are and moved, and in another style."""
    pipe, settings = adapter_pipeline(base, adapter), DenoiserSettings()
    known = latent_set(settings, base.vae, pictures)
    sets = {
        "pictures of the denoiser's styles": held_out_edges(pictures, settings.styles),
        "the same, turned, moved, mirrored": held_out_edges(pictures, settings.styles, random=np.random.default_rng(0)),
        "a style that it never learned": held_out_edges(pictures, ("noto",)),
    }
    rows, tiles, prompts = [], [], []
    for name, tasks in sets.items():
        drawn = {
            "with": draw_along(pipe, tasks, guidance=guidance),
            "without": draw_along(pipe, tasks, guidance=guidance, scale=0.0),
            "the VAE, of the true picture": reconstruct(base.vae, pixels_to_tensor(tasks.true)),
        }
        rows += [_row(f"{len(tasks.prompts)} {name}", how, each, tasks, base, known) for how, each in drawn.items()]
        which = evenly(len(tasks.prompts), _SHOWN // len(sets))
        tiles.append(torch.stack([each[which] for each in (tasks.drawing(), drawn["with"], drawn["without"])]))
        prompts += [f"{tasks.prompts[i]} (seed {i})" for i in which]
    return Shown(
        table(["edges of", "drawn", "F1 of edges", "label found"], rows),
        grid(torch.cat(tiles, dim=1).flatten(0, 1), columns=_SHOWN),
        "Edges of twelve held-out pictures, the middle ones moved; drawn with the adapter; drawn without it",
        "The prompts and seeds, from left to right",
        prompts,
    )


def _row(
    name: str, how: str, pixels: Tensor, tasks: EdgeTasks, base: StableDiffusionPipeline, known: LatentSet
) -> list[str]:
    pairs = zip(edges(tensor_to_pixels(pixels)), tasks.edges, strict=True)
    found = np.mean([agreement(drawn, asked) for drawn, asked in pairs])
    return [name, how, f"{found:.2f}", f"{share_found(tasks.labels, nearest_labels(base.vae, pixels, known)):.1%}"]
