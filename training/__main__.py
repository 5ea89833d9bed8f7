"""The command line of training: the pictures, the VAE, the denoiser, and how good they are."""

import enum
from pathlib import Path
from typing import Annotated

import mlflow
import torch
import typer
from diffusers import AutoencoderKL

from training import adapter as adapter_stage
from training import additions, tiny_decoder
from training import checkpoint as checkpoint_folder
from training import denoiser as denoiser_stage
from training import inpainting as inpainting_stage
from training import pictures as picture_set
from training import upscaler as upscaler_stage
from training import vae as vae_stage
from training.additions import Addition
from training.captions import learn_tokenizer
from training.decoder_targets import decoder_targets
from training.latents import Frozen, latent_set
from training.release import Report, decoder_table, report
from training.release import release as make_release
from training.release import release_decoders as make_decoders
from training.settings import (
    PREVIEW_DECODER,
    SMALL_DECODER,
    UPSCALER_VAE,
    AdapterSettings,
    DenoiserSettings,
    InpaintingSettings,
    LoopSettings,
    UpscalerSettings,
    VaeSettings,
    workspace,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "models" / "emoji" / "checkpoint"
GUIDANCE = 2.0  # by eye: above it backgrounds turn grey and colours burn, below it shapes blur
Threads = Annotated[int, typer.Option(min=0, help="torch threads; 0 takes every core")]
Guidance = Annotated[float, typer.Option(min=0, help="0 ignores the prompt, 1 is the prompt alone")]
Steps = Annotated[int | None, typer.Option(min=1, help="train up to this step instead of the settings' number")]

Weights = Annotated[Path | None, typer.Option(help="other weights than those that a command takes by itself")]
Base = Annotated[Path, typer.Option(help="the checkpoint that it builds on, a diffusers folder")]


class _Bundle(enum.StrEnum):
    EMOJI = "emoji"
    EMOJI_X4 = "emoji-x4"


_VAES = {_Bundle.EMOJI: ("vae", VaeSettings()), _Bundle.EMOJI_X4: ("vae-x4", UPSCALER_VAE)}


class _Decoder(enum.StrEnum):
    SMALL = "small"
    PREVIEW = "preview"


_DECODERS = {_Decoder.SMALL: SMALL_DECODER, _Decoder.PREVIEW: PREVIEW_DECODER}


class _Exported(enum.StrEnum):
    EDGES = Addition.EDGES.value
    X4 = Addition.X4.value


@app.command()
def data() -> None:
    """Fetch the npm packages, check them and draw the captioned pictures."""
    built = picture_set.build(workspace() / "packages", workspace() / "pictures")
    typer.echo(f"{len(built.pictures)} pictures in {workspace() / 'pictures'}")


@app.command()
def vae(
    bundle: Annotated[_Bundle, typer.Argument(help="the bundle whose VAE it is")] = _Bundle.EMOJI,
    steps: Steps = None,
    threads: Threads = 0,
) -> None:
    """Train a bundle's VAE, or go on training it."""
    _prepare(threads)
    name, settings = _VAES[bundle]
    settings = settings.model_copy(update={"loop": _prolonged(settings.loop, steps)})
    vae_stage.train(settings, picture_set.load(workspace() / "pictures"), workspace() / name)


@app.command()
def denoiser(
    steps: Steps = None,
    threads: Threads = 0,
    start: Annotated[Path | None, typer.Option(help="a checkpoint whose weights to begin with")] = None,
    memorise: Annotated[int | None, typer.Option(min=1, help="learn only so many pictures, as a trial")] = None,
) -> None:
    """Train text encoder and denoiser on the VAE's latents, or go on training them."""
    _prepare(threads)
    settings = DenoiserSettings(most_pictures=memorise)
    settings = settings.model_copy(update={"loop": _prolonged(settings.loop, steps)})
    pictures = picture_set.load(workspace() / "pictures")
    frozen = _frozen(settings, pictures, start)
    latents = latent_set(settings, frozen.vae, pictures)
    folder = workspace() / ("denoiser" if memorise is None else f"denoiser-{memorise}")
    try:
        denoiser_stage.train(settings, frozen, latents, folder, start)
    except FileExistsError as error:
        raise typer.BadParameter(str(error), param_hint="--start") from None


@app.command()
def decoder(
    name: Annotated[_Decoder, typer.Argument(help="small: for whole pictures; preview: for pictures in mid-walk")],
    checkpoint: Annotated[Path, typer.Option(help="the VAE and denoiser that it is for, a diffusers folder")] = BUNDLED,
    steps: Steps = None,
    threads: Threads = 0,
) -> None:
    """Train a small decoder of the VAE's latents, or go on training it."""
    _prepare(threads)
    settings = _DECODERS[name]
    settings = settings.model_copy(update={"loop": _prolonged(settings.loop, steps)})
    pictures = picture_set.load(workspace() / "pictures")
    pipe, folder = checkpoint_folder.load(checkpoint), workspace() / "decoders"
    targets = decoder_targets(settings.targets, pipe, pictures, folder)
    tiny_decoder.train(name.value, settings, pipe.vae, targets, pictures, folder / name.value)


@app.command()
def inpainting(checkpoint: Base = BUNDLED, steps: Steps = None, threads: Threads = 0) -> None:
    """Train the mask-conditioned denoiser, or go on training it."""
    _prepare(threads)
    settings = InpaintingSettings()
    settings = settings.model_copy(update={"loop": _prolonged(settings.loop, steps)})
    pictures = picture_set.load(workspace() / "pictures")
    inpainting_stage.train(settings, checkpoint_folder.load(checkpoint), pictures, workspace() / "inpainting")


@app.command()
def adapter(checkpoint: Base = BUNDLED, steps: Steps = None, threads: Threads = 0) -> None:
    """Train the edge adapter, or go on training it."""
    _prepare(threads)
    settings = AdapterSettings()
    settings = settings.model_copy(update={"loop": _prolonged(settings.loop, steps)})
    pictures = picture_set.load(workspace() / "pictures")
    adapter_stage.train(settings, checkpoint_folder.load(checkpoint), pictures, workspace() / "adapter")


@app.command()
def upscaler(checkpoint: Base = BUNDLED, steps: Steps = None, threads: Threads = 0) -> None:
    """Train the denoiser of emoji-x4 on the latents of its VAE, or go on training it."""
    _prepare(threads)
    settings = UpscalerSettings()
    settings = settings.model_copy(update={"loop": _prolonged(settings.loop, steps)})
    pictures, base = picture_set.load(workspace() / "pictures"), checkpoint_folder.load(checkpoint)
    own = AutoencoderKL.from_pretrained(workspace() / _VAES[_Bundle.EMOJI_X4][0] / "vae").eval()
    upscaler_stage.train(settings, own, base, pictures, workspace() / "upscaler")


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="a diffusers folder")] = BUNDLED,
    guidance: Guidance = GUIDANCE,
    threads: Threads = 0,
    memorise: Annotated[int | None, typer.Option(min=1, help="the checkpoint learned only so many pictures")] = None,
) -> None:
    """Measure reconstruction and prompt fidelity, with the shuffled pairing beside it."""
    _prepare(threads)
    settings = DenoiserSettings(most_pictures=memorise)
    _tell(report(checkpoint, picture_set.load(workspace() / "pictures"), settings, guidance))


@app.command()
def release(
    checkpoint: Annotated[Path | None, typer.Argument(help="a checkpoint; the one last trained if not given")] = None,
    guidance: Guidance = GUIDANCE,
    threads: Threads = 0,
) -> None:
    """Make the bundled model of a checkpoint: float16 weights, components, golden cases, pictures and figures."""
    _prepare(threads)
    trained = workspace() / "denoiser" / "checkpoint" if checkpoint is None else checkpoint
    pictures = picture_set.load(workspace() / "pictures")
    _tell(make_release(trained, pictures, ROOT, DenoiserSettings(), guidance))


@app.command()
def evaluate_decoders(guidance: Guidance = GUIDANCE, threads: Threads = 0) -> None:
    """Measure the bundled decoders: size, time, and PSNR on held-out pictures and on drawn latents."""
    _prepare(threads)
    typer.echo(decoder_table(ROOT, picture_set.load(workspace() / "pictures"), guidance))


@app.command()
def release_decoders(guidance: Guidance = GUIDANCE, threads: Threads = 0) -> None:
    """Bundle the small decoders that were trained last: checkpoints, components, golden cases, picture and figures."""
    _prepare(threads)
    pictures = picture_set.load(workspace() / "pictures")
    typer.echo(make_decoders(workspace() / "decoders", pictures, ROOT, guidance))


@app.command()
def evaluate_addition(
    name: Annotated[Addition, typer.Argument(help="what to measure")],
    weights: Weights = None,
    guidance: Guidance = GUIDANCE,
    threads: Threads = 0,
) -> None:
    """Measure what the bundled model was given beside text to image, and draw its grid into the workspace."""
    _prepare(threads)
    pictures, folder = picture_set.load(workspace() / "pictures"), weights or additions.released(name, ROOT)
    shown = additions.report(name, folder, checkpoint_folder.load(BUNDLED), pictures, guidance)
    shown.grid.save(workspace() / f"{name}.png")
    typer.echo(shown.block(f"{name}.png"))


@app.command()
def release_addition(
    name: Annotated[Addition, typer.Argument(help="what to release")],
    weights: Weights = None,
    guidance: Guidance = GUIDANCE,
    threads: Threads = 0,
) -> None:
    """Put an addition's weights and components into models/, and its grid and figures into docs/bundled-editing.md."""
    _prepare(threads)
    pictures, folder = picture_set.load(workspace() / "pictures"), weights or additions.trained(name, workspace())
    typer.echo(additions.release(name, folder, BUNDLED, pictures, ROOT, guidance).table)


@app.command()
def export_addition(name: Annotated[_Exported, typer.Argument(help="whose components to make")]) -> None:
    """Make the components of an addition's released weights anew, as after a release of the model that it is for."""
    additions.export(Addition(name), ROOT)


def _tell(found: Report) -> None:
    for name, value in found.rows():
        typer.echo(f"{name}: {value}")


def _frozen(settings: DenoiserSettings, pictures: picture_set.PictureSet, start: Path | None) -> Frozen:
    scheduler = denoiser_stage.scheduler_for(settings.noise)
    if start is not None:
        pipe = checkpoint_folder.load(start)
        return Frozen(pipe.vae, pipe.tokenizer, scheduler)
    trained = AutoencoderKL.from_pretrained(workspace() / "vae" / "vae")
    return Frozen(trained, learn_tokenizer(pictures.pictures, settings.text_encoder.vocabulary), scheduler)


def _prolonged(loop: LoopSettings, steps: int | None) -> LoopSettings:
    return loop if steps is None else loop.model_copy(update={"steps": steps})


def _prepare(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
    folder = workspace().resolve()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    if mlflow.get_experiment_by_name("training") is None:
        mlflow.create_experiment("training", artifact_location=(folder / "mlruns").as_uri())


if __name__ == "__main__":
    app()
