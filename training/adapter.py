"""An adapter (Mou et al., 2023) that has the bundled denoiser draw along given edges; nothing else is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionAdapterPipeline, StableDiffusionPipeline, T2IAdapter
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from training import checkpoint
from training.captions import caption
from training.edges import edges
from training.latents import LatentSet, encode, learned_but_held_out
from training.loop import Loop
from training.moving import moved, with_moved
from training.pictures import PictureSet
from training.prompts import Prompts
from training.settings import AdapterSettings, DenoiserSettings
from training.vae import grid
from training.velocity import noised, velocity_losses

_SHOWN, _DRAWN = 12, 20
_SAMPLE_GUIDANCE = 2.0


@dataclass(frozen=True)
class EdgeSet:
    """Pictures, some turned, moved or mirrored: their latents and, in the same order, their edges [N, H, W], 0 or 1."""

    latents: LatentSet
    edges: NDArray[np.uint8]


def new_adapter(settings: AdapterSettings, pipe: StableDiffusionPipeline) -> T2IAdapter:
    """An adapter with random weights that fits the denoiser of `pipe`.

    Of diffusers' adapters only that made for SDXL fits a U-Net whose first level has no attention: there, features are
    added behind the downsampling, so the first two are of the same size, half that of the latents.
    """
    torch.manual_seed(settings.loop.seed)
    return T2IAdapter(
        in_channels=1,
        channels=list(pipe.unet.config.block_out_channels),
        num_res_blocks=settings.blocks,
        downscale_factor=2 * pipe.vae_scale_factor,
        adapter_type="full_adapter_xl",
    )


def edge_set(settings: AdapterSettings, pipe: StableDiffusionPipeline, pictures: PictureSet) -> EdgeSet:
    """Every picture that the denoiser learned but those held out, as it is and `settings.moved` times changed.

    From the pictures as they are, the adapter would learn little: the denoiser knows them from their captions.
    """
    made = with_moved(pictures, learned_but_held_out(DenoiserSettings(), pictures), settings.moved, settings.loop.seed)
    # twice as fast on the CPU
    pipe.vae.to(memory_format=torch.channels_last)
    return EdgeSet(encode(pipe.vae, made, range(len(made.pictures))), edges(made.pixels))


class AdapterTask:
    """Learns the features that make the frozen denoiser's predictions right, given the edges of the picture."""

    name = "adapter"

    def __init__(
        self, settings: AdapterSettings, pipe: StableDiffusionPipeline, known: EdgeSet, pictures: PictureSet
    ) -> None:
        self._settings, self._pipe, self._known = settings, pipe, known
        self._prompts = Prompts(pipe, known.latents.pictures)
        self._shown = held_out_edges(pictures, DenoiserSettings().styles, _SHOWN)
        pipe.unet.requires_grad_(False)
        self.module: nn.Module = new_adapter(settings, pipe)

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """Mean squared error of the predicted velocity, whole and by quarters of the timesteps."""
        settings, latents = self._settings, self._known.latents
        which = torch.randint(len(latents.pictures), (batch,), generator=generator)
        mean = latents.mean[which]
        clean = mean + latents.deviation[which] * torch.randn(mean.shape, generator=generator)
        true = noised(self._pipe.scheduler, clean, generator, settings.timestep_power)
        features = self.module(edge_tensor(self._known.edges[which.numpy()]))
        predicted = self._pipe.unet(
            true.noisy,
            true.timesteps,
            encoder_hidden_states=self._prompts.of(which, generator, settings.empty_chance),
            down_intrablock_additional_residuals=features,
        ).sample
        return velocity_losses(predicted, true)

    @torch.no_grad()
    def sample(self, averaged: nn.Module) -> Image.Image:
        """Edges of held-out pictures, what is drawn with them, and without."""
        assert isinstance(averaged, T2IAdapter)
        pipe = adapter_pipeline(self._pipe, averaged)
        shown = self._shown
        drawn = [draw_along(pipe, shown, guidance=_SAMPLE_GUIDANCE, scale=scale) for scale in (1.0, 0.0)]
        return grid(torch.cat([shown.drawing(), *drawn]), columns=_SHOWN)


@dataclass(frozen=True)
class EdgeTasks:
    """What to draw: edges [B, H, W], 0 or 1, of the true uint8 pictures [B, H, W, 3], prompts and labels."""

    edges: NDArray[np.uint8]
    true: NDArray[np.uint8]
    prompts: list[str]
    labels: list[str]

    def drawing(self) -> Tensor:
        """The edges as pictures [B, 3, H, W], white on black."""
        return edge_tensor(self.edges).repeat(1, 3, 1, 1) * 2 - 1


def held_out_edges(
    pictures: PictureSet, styles: tuple[str, ...], count: int | None = None, random: np.random.Generator | None = None
) -> EdgeTasks:
    """Held-out pictures of these styles, of things that the denoiser draws, moved by `random` if it is given."""
    which = [i for i in pictures.held_out() if pictures.pictures[i].drawn and pictures.pictures[i].style in styles]
    which = which[:count]
    true = pictures.pixels[which] if random is None else moved(pictures.pixels[which], random)
    made = [pictures.pictures[i] for i in which]
    return EdgeTasks(edges(true), true, [caption(each) for each in made], [each.label for each in made])


def edge_tensor(found: NDArray[np.uint8]) -> Tensor:
    """Edges [B, H, W] as an adapter takes them: float32 [B, 1, H, W] of 0 and 1."""
    return torch.from_numpy(found)[:, None].float()


def adapter_pipeline(pipe: StableDiffusionPipeline, adapter: T2IAdapter) -> StableDiffusionAdapterPipeline:
    """The adapter's pipeline with the parts of `pipe`."""
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    return StableDiffusionAdapterPipeline(**parts, adapter=adapter, requires_safety_checker=False)


@torch.no_grad()
def draw_along(
    pipe: StableDiffusionAdapterPipeline, tasks: EdgeTasks, *, steps: int = 25, guidance: float, scale: float = 1.0
) -> Tensor:
    """Draw every task, task k from seed k, its edges weighing `scale`: [B, 3, H, W] in [-1, 1]."""
    pipe.set_progress_bar_config(disable=True)
    drawn = []
    for part in np.array_split(np.arange(len(tasks.prompts)), -(-len(tasks.prompts) // _DRAWN)):
        pictures = pipe(
            [tasks.prompts[i] for i in part],
            image=edge_tensor(tasks.edges[part]),
            num_inference_steps=steps,
            guidance_scale=guidance,
            adapter_conditioning_scale=scale,
            generator=[torch.Generator().manual_seed(int(i)) for i in part],
            output_type="np",
        ).images
        drawn.append(torch.from_numpy(pictures).permute(0, 3, 1, 2) * 2 - 1)
    return torch.cat(drawn)


def train(settings: AdapterSettings, pipe: StableDiffusionPipeline, pictures: PictureSet, folder: Path) -> None:
    """Train (or go on training) the adapter; its averaged weights lie in `folder`/adapter."""
    task = AdapterTask(settings, pipe, edge_set(settings, pipe, pictures), pictures)
    loop = Loop(task, settings.loop, folder)
    loop.run(settings, lambda: checkpoint.save(loop.averaged, loop.history, folder / "adapter"))
