"""`python -m pipeline PROMPT --out FILE [--image FILE [--mask FILE]]`: one picture of a bundle, without a server."""

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import typer
from PIL import Image

from components.errors import ComponentError
from diffusion.noise import DEFAULT_RNG, SOURCES
from diffusion.samplers import SAMPLERS
from diffusion.sigma_schedules import SIGMA_SCHEDULES
from pipeline.errors import RequestError
from pipeline.image_to_image import EditOptions, ImageToImage
from pipeline.prompts.weighting import WEIGHTINGS
from pipeline.request import RequestRules, fresh_seed
from pipeline.source_pictures import open_picture
from pipeline.text_to_image import Options, TextToImage
from runtime.errors import RuntimeFault
from runtime.settings import SessionSettings

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class _Provider(enum.StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


def main(
    prompt: Annotated[str, typer.Argument(help="what to draw")],
    out: Annotated[Path, typer.Option(help=f"the picture's file, ending in {', '.join(_SUFFIXES)}")],
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji"),
    image: Annotated[Path | None, typer.Option(help="a picture to start from")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="what of it to draw anew: the white of this picture, or what is transparent")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option(help="for a bundle that sees it: a picture, the lighter the nearer things are")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="how much may change, 0 to 1; 0.8 if not given, with a mask 1")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="which picture of the prompt; drawn afresh if not given")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="what to keep away from")] = None,
    weighting: Annotated[
        str | None, typer.Option(help=f"how the prompts weigh their parts: {', '.join(WEIGHTINGS)}; none if not given")
    ] = None,
    clip_skip: Annotated[
        int | None, typer.Option(help="the text encoder's layer: 1, if not given, the last, 2 the one before it")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="how many steps to walk")] = None,
    guidance: Annotated[float | None, typer.Option(help="0 ignores the prompt, 1 is the prompt alone")] = None,
    guidance_rescale: Annotated[float, typer.Option(help="take back that share of what guidance burns, 0 to 1")] = 0.0,
    guidance_start: Annotated[float, typer.Option(help="guide from that fraction of the steps on")] = 0.0,
    guidance_end: Annotated[float, typer.Option(help="guide up to that fraction of the steps")] = 1.0,
    adaptive_guidance: Annotated[
        float | None, typer.Option(help="guide no more once the two predictions agree by this cosine, such as 0.99")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help=f"one of {', '.join(sorted(SAMPLERS))}")] = None,
    schedule: Annotated[
        str | None, typer.Option(help=f"how sigmas are spread: one of {', '.join(sorted(SIGMA_SCHEDULES))}")
    ] = None,
    eta: Annotated[
        float | None, typer.Option(help="share of fresh noise, of ddim and tcd; their own if not given")
    ] = None,
    rng: Annotated[
        str | None, typer.Option(help=f"whose noise: one of {', '.join(sorted(SOURCES))}; {DEFAULT_RNG} if not given")
    ] = None,
    subseed: Annotated[int | None, typer.Option(help="whose noise to go towards; drawn afresh if not given")] = None,
    subseed_strength: Annotated[float, typer.Option(help="how far to go, 0 to 1")] = 0.0,
    width: Annotated[int | None, typer.Option(help="in pixels; the bundle's own if not given")] = None,
    height: Annotated[int | None, typer.Option(help="in pixels; the bundle's own if not given")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="every core if not given")] = None,
    provider: Annotated[_Provider, typer.Option(help="where to run")] = _Provider.AUTO,
) -> None:
    """Draw one picture with a bundle of component folders."""
    if out.suffix.lower() not in _SUFFIXES:
        raise _failure(f"--out: its name must end in one of {', '.join(_SUFFIXES)}")
    asked = {
        "seed": fresh_seed() if seed is None else seed,
        "negative_prompt": negative_prompt,
        "weighting": weighting,
        "clip_skip": clip_skip,
        "steps": steps,
        "strength": strength,
        "guidance": guidance,
        "guidance_rescale": guidance_rescale,
        "guidance_start": guidance_start,
        "guidance_end": guidance_end,
        "adaptive_guidance": adaptive_guidance,
        "sampler": sampler,
        "schedule": schedule,
        "eta": eta,
        "rng": rng,
        "subseed": fresh_seed() if subseed is None else subseed,
        "subseed_strength": subseed_strength,
        "width": width,
        "height": height,
    }
    for name, given in (("mask", mask), ("depth", depth), ("strength", strength)):
        if given is not None and image is None:
            raise _failure(f"--{name}: needs an --image")
    options = cast(EditOptions, {name: value for name, value in asked.items() if value is not None})
    settings = SessionSettings(threads=threads, provider=provider.value)
    try:
        pictures = {"image": image, "mask": mask, "depth": depth}
        opened = {name: _opened(name, path) for name, path in pictures.items()}
        drawn = _drawn(prompt, bundle, settings, opened, options)
    except (ComponentError, RequestError, RuntimeFault) as error:
        raise _failure(str(error)) from None
    _save(drawn, out)
    varied = f", subseed {asked['subseed']}" if subseed_strength else ""
    typer.echo(f"{out}: seed {asked['seed']}{varied}")


def _drawn(
    prompt: str,
    bundle: Path,
    settings: SessionSettings,
    pictures: Mapping[str, Image.Image | None],
    options: EditOptions,
) -> Image.Image:
    image = pictures["image"]
    if image is None:
        return TextToImage.load(bundle, settings).generate(prompt, **cast(Options, options))
    chain = ImageToImage.load(bundle, settings)
    return chain.generate(prompt, image, pictures["mask"], depth=pictures["depth"], **options)


def _opened(field: str, path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        return open_picture(field, path.read_bytes(), RequestRules().max_source_pixels)
    except OSError as error:
        raise _failure(f"--{field}: cannot be read: {error.strerror}") from None


def _save(drawn: Image.Image, out: Path) -> None:
    try:
        drawn.save(out)
    except OSError as error:
        raise _failure(f"--out: cannot be written: {error.strerror}") from None


def _failure(sentence: str) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
