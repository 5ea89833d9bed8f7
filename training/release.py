"""From a trained checkpoint to what the repository ships: the checkpoint, its components, and what is said of them."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from rich.progress import track
from torch import Tensor

from exporters.bundle import export_bundle
from training import checkpoint, evaluation
from training.captions import caption
from training.denoiser import draw
from training.latents import latent_set
from training.loop import History
from training.pictures import PictureSet
from training.settings import DenoiserSettings
from training.vae import grid

BUNDLE = "emoji"
LICENCE = "MIT (Fluent Emoji, emojibase), Apache-2.0 (Noto Emoji)"
GRID_NAME = "bundled-model-grid.png"
_GRID_PICTURES, _GRID_COLUMNS = 60, 10
_GENERATED = re.compile(r"(?<=<!-- release -->\n).*(?=<!-- /release -->)", re.DOTALL)


@dataclass(frozen=True)
class Quality:
    """What `evaluate` finds: PSNR of every held-out picture in dB, and prompt fidelity."""

    psnr: Tensor
    fidelity: evaluation.Fidelity


def measure(
    pipe: StableDiffusionPipeline, pictures: PictureSet, settings: DenoiserSettings, guidance: float
) -> Quality:
    """Reconstruction of held-out pictures and fidelity to fixed captions."""
    psnr = evaluation.reconstruction_psnr(pipe.vae, pictures)
    latents = latent_set(settings, pipe.vae, pictures)
    count = min(200, len({picture.label for picture in latents.pictures}))
    return Quality(psnr, evaluation.fidelity(pipe, latents, guidance=guidance, count=count))


def release(trained: Path, pictures: PictureSet, models: Path, docs: Path, guidance: float) -> Quality:
    """Put a trained checkpoint into `models`/emoji with its four components, and write grid and figures into `docs`.

    What is measured and drawn is the released checkpoint itself, in the precision in which it is stored.

    Raises:
        ExportError: a component is not exact.
    """
    history = checkpoint.history(trained)
    released = models / BUNDLE / "checkpoint"
    checkpoint.save(checkpoint.load(trained), history, released)
    export_bundle(released, BUNDLE, models / BUNDLE, weights="float16", licence=LICENCE)
    pipe = checkpoint.load(released)
    settings = DenoiserSettings()
    quality = measure(pipe, pictures, settings, guidance)
    prompts = _grid_prompts(pictures, settings)
    _grid(pipe, prompts, guidance).save(docs / GRID_NAME, optimize=True)
    _write_figures(docs / "bundled-model.md", _figures(pipe, history, quality, prompts))
    return quality


def _grid_prompts(pictures: PictureSet, settings: DenoiserSettings) -> list[str]:
    learned = [picture for picture in pictures.pictures if picture.drawn and picture.style in settings.styles]
    return [caption(picture) for picture in evaluation.fixed_pictures(learned, _GRID_PICTURES)]


def _grid(pipe: StableDiffusionPipeline, prompts: list[str], guidance: float) -> Image.Image:
    parts = np.array_split(np.arange(len(prompts)), len(prompts) // _GRID_COLUMNS)
    drawn = [
        draw(pipe, [prompts[seed] for seed in seeds], seeds.tolist(), guidance=guidance)
        for seeds in track(parts, "grid")
    ]
    return grid(torch.cat(drawn), columns=_GRID_COLUMNS)


def _write_figures(page: Path, figures: str) -> None:
    text = page.read_text(encoding="utf-8")
    assert _GENERATED.search(text), f"{page.name} has no place for the figures"
    page.write_text(_GENERATED.sub(lambda _: figures, text), encoding="utf-8")


def _figures(pipe: StableDiffusionPipeline, history: History, quality: Quality, prompts: list[str]) -> str:
    found = quality.fidelity
    pooled = -10 * np.log10(np.mean(10 ** (-quality.psnr.numpy() / 10)))
    rows = [
        ("text encoder", f"{_millions(pipe.text_encoder)} M parameters"),
        ("U-Net", f"{_millions(pipe.unet)} M parameters"),
        ("samples seen by the denoiser", f"{history.samples:,}"),
        ("hours of training steps, on two shared cores", f"{history.hours:.1f}"),
        ("reconstruction, 200 held-out pictures, mean PSNR", f"{quality.psnr.mean():.1f} dB"),
        ("the same, median", f"{quality.psnr.median():.1f} dB"),
        ("the same, from the mean squared error of all", f"{pooled:.1f} dB"),
        (
            f"prompt fidelity, {found.count} captions, {found.steps} steps, guidance {found.guidance:g}",
            _share(found.asked),
        ),
        ("the same with the captions shuffled", _share(found.shuffled)),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    listed = "\n".join(f"{seed}. {prompt}" for seed, prompt in enumerate(prompts))
    return (
        f"{table}\n\n![Sixty pictures, one a prompt, not chosen]({GRID_NAME})\n\n"
        f"<details><summary>The prompts, in rows of {_GRID_COLUMNS}; picture k has seed k</summary>\n\n{listed}\n\n"
        "</details>\n"
    )


def _share(part: float) -> str:
    return f"{part:.1%}"


def _millions(module: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f}"
