"""From a trained checkpoint to what the repository ships: the checkpoint, its components, and what is said of them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from rich.progress import track
from torch import Tensor

from exporters.bundle import BundleOptions, export_bundle
from exporters.cost import megabytes, milliseconds
from exporters.decoder import DecoderOptions, export_decoder
from exporters.tiny_decoder import read_tiny
from training import checkpoint, evaluation
from training.captions import caption
from training.decoder_report import OWN, Cost, Decoder, decoders, qualities, side_by_side, table
from training.denoiser import draw
from training.latents import LATENT_SIZE, latent_set
from training.loop import History
from training.page import Page, Shown
from training.pictures import PictureSet
from training.settings import DenoiserSettings
from training.vae import grid

BUNDLE = "emoji"
PAGE = "bundled-model.md"
LICENCE = "MIT (Fluent Emoji, emojibase), Apache-2.0 (Noto Emoji)"
GRID_NAME = "bundled-model-grid.png"
README_PROMPT, README_SEED, README_PICTURE = "a red apple, 3d style", 0, "apple.png"
_GRID_PICTURES, _GRID_COLUMNS = 60, 10
DECODERS_PICTURE = "decoders.png"
# the folder of the component that each small decoder becomes
_COMPONENTS = {"small": "vae_decoder-small", "preview": "preview_decoder"}
_PREVIEWS = frozenset({"preview"})
_TIMED_THREADS = (1, 2)


@dataclass(frozen=True)
class Report:
    """What there is to say of a checkpoint: its history, PSNR of every held-out picture in dB, prompt fidelity."""

    history: History
    parameters: Mapping[str, int]
    psnr: Tensor
    fidelity: evaluation.Fidelity

    def rows(self) -> list[tuple[str, str]]:
        """Names and values, in words."""
        found = self.fidelity
        pooled = -10 * np.log10(np.mean(10 ** (-self.psnr.numpy() / 10)))
        drawn = f"{found.count} captions, {found.steps} steps, guidance {found.guidance:g}"
        return [
            *((f"{part}, parameters", f"{count / 1e6:.1f} M") for part, count in self.parameters.items()),
            ("samples seen by the denoiser", f"{self.history.samples:,}"),
            ("hours of training steps, on two shared cores", f"{self.history.hours:.1f}"),
            (f"reconstruction of {len(self.psnr)} held-out pictures, mean PSNR", f"{self.psnr.mean():.1f} dB"),
            ("the same, median", f"{self.psnr.median():.1f} dB"),
            ("the same, of the mean squared error of all", f"{pooled:.1f} dB"),
            (f"prompt fidelity, {drawn}", f"{found.asked:.1%}"),
            ("the same with the captions shuffled", f"{found.shuffled:.1%}"),
        ]


def report(folder: Path, pictures: PictureSet, settings: DenoiserSettings, guidance: float) -> Report:
    """Measure a checkpoint: reconstruction of held-out pictures, fidelity to at most 200 fixed captions."""
    pipe = checkpoint.load(folder)
    psnr = evaluation.reconstruction_psnr(pipe.vae, pictures)
    latents = latent_set(settings, pipe.vae, pictures)
    count = min(200, len({picture.label for picture in latents.pictures}))
    parts = {"VAE": pipe.vae, "text encoder": pipe.text_encoder, "U-Net": pipe.unet}
    return Report(
        history=checkpoint.history(folder),
        parameters={name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()},
        psnr=psnr,
        fidelity=evaluation.fidelity(pipe, latents, guidance=guidance, count=count),
    )


def release(trained: Path, pictures: PictureSet, root: Path, settings: DenoiserSettings, guidance: float) -> Report:
    """Make models/emoji and the pictures and figures of docs/ below `root` from a trained checkpoint.

    What is measured and drawn is the released checkpoint itself, in the precision in which it is stored. Checkpoint and
    components are replaced together, once the components are right.

    Raises:
        PageError: the page has no place for the figures.
        ExportError: a component is not exact.
    """
    docs, bundle = root / "docs", root / "models" / BUNDLE
    page = Page.open(docs / PAGE, "release")
    history = checkpoint.history(trained)
    options = BundleOptions(
        BUNDLE, source="python -m training", licence=LICENCE, training_run=history.run, guidance=guidance
    )
    with TemporaryDirectory() as place:
        rounded = Path(place) / "checkpoint"
        checkpoint.save(checkpoint.load(trained), history, rounded)
        export_bundle(rounded, bundle, options)
        shutil.rmtree(bundle / "checkpoint", ignore_errors=True)
        shutil.move(rounded, bundle / "checkpoint")
    found = report(bundle / "checkpoint", pictures, settings, guidance)
    pipe, prompts = checkpoint.load(bundle / "checkpoint"), _grid_prompts(pictures, settings)
    shown = _shown(found, prompts, _grid(pipe, prompts, guidance))
    shown.grid.save(docs / GRID_NAME, optimize=True)
    grid(draw(pipe, [README_PROMPT], [README_SEED], guidance=guidance), columns=1).save(docs / README_PICTURE)
    page.write(shown.block(GRID_NAME))
    return found


def release_decoders(trained: Path, pictures: PictureSet, root: Path, guidance: float) -> str:
    """Make the small decoders' checkpoints and components in models/emoji, their figures and their picture in docs/.

    `trained` holds a folder for each, as training leaves them. What is measured is what is released. Returns the table.

    Raises:
        PageError: the page has no place for the figures.
        ExportError: a decoder is missing or for other latents than the bundle's, or a component is not exact.
    """
    docs, bundle = root / "docs", root / "models" / BUNDLE
    page = Page.open(docs / PAGE, "decoders")
    for name, component in _COMPONENTS.items():
        options = DecoderOptions(
            preview=name in _PREVIEWS,
            source="python -m training",
            licence=LICENCE,
            training_run=checkpoint.history(trained / name / "checkpoint").run,
        )
        export_decoder(trained / name / "checkpoint", bundle / "vae_decoder", bundle / component, options)
        shutil.rmtree(bundle / "decoders" / name, ignore_errors=True)
        shutil.copytree(trained / name / "checkpoint", bundle / "decoders" / name)
    pipe, found = _released_decoders(bundle)
    side_by_side(pipe, found, pictures, guidance).save(docs / DECODERS_PICTURE, optimize=True)
    figures = table(qualities(pipe, found, pictures, guidance), _costs(bundle))
    page.write(f"{figures}\n")
    return figures


def decoder_table(root: Path, pictures: PictureSet, guidance: float) -> str:
    """Measure the released decoders again and change nothing."""
    bundle = root / "models" / BUNDLE
    pipe, found = _released_decoders(bundle)
    return table(qualities(pipe, found, pictures, guidance), _costs(bundle))


def _released_decoders(bundle: Path) -> tuple[StableDiffusionPipeline, dict[str, Decoder]]:
    pipe = checkpoint.load(bundle / "checkpoint")
    return pipe, decoders(pipe, {name: read_tiny(bundle / "decoders" / name) for name in _COMPONENTS})


def _costs(bundle: Path) -> dict[str, Cost]:
    paths = {OWN: bundle / "vae_decoder", **{name: bundle / folder for name, folder in _COMPONENTS.items()}}
    feeds = {"latents": np.random.default_rng(0).standard_normal((1, 4, LATENT_SIZE, LATENT_SIZE), np.float32)}
    by_threads = {threads: milliseconds(list(paths.values()), feeds, threads) for threads in _TIMED_THREADS}
    return {
        name: Cost(megabytes(path), {threads: taken[place] for threads, taken in by_threads.items()})
        for place, (name, path) in enumerate(paths.items())
    }


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


def _shown(found: Report, prompts: list[str], made: Image.Image) -> Shown:
    summary = f"The prompts, in rows of {_GRID_COLUMNS}; picture k has seed k"
    figures = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in found.rows())])
    return Shown(figures, made, "Sixty pictures, one a prompt, not chosen", summary, prompts)
