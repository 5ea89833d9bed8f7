"""`python -m benchmarks tiles`: a large picture through the VAE in tiles and as a whole, for memory and for seams."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import Out, result_file
from benchmarks.errors import BenchmarkError
from components.contract import Kind
from components.messages import FloatArray, Pixels, Tiling
from diffusion.latents import to_model
from pipeline.bundle import open_bundle
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from pipeline.own_memory import status_bytes
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.text_encoder import TextEncoder
from pipeline.tiling import Grid
from pipeline.trial_pictures import psnr
from pipeline.vae_decoder import VaeDecoder
from pipeline.vae_encoder import VaeEncoder
from runtime.settings import SessionSettings

_PROMPT = "a red apple, 3d style"
_PEAK = 255.0

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Cost:
    """The most memory of a process that takes one picture through one half of the VAE, and how long that took."""

    peak_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Seams:
    """How a picture in tiles differs from the whole one, in 8-bit levels.

    `seam_step` is the most that the difference between the two changes across any line where a tile begins or has
    wholly taken over, on average over that line, and `other_step` the average of all other lines; `own_step` is what
    the whole picture itself changes from one line to the next. `largest` is the largest difference of any channel.
    """

    psnr_db: float
    largest: int
    seam_step: float
    other_step: float
    own_step: float


def tiles(
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji"),
    picture: Annotated[Path, typer.Option(help="a picture that is enlarged and encoded")] = Path("docs/apple.png"),
    side: Annotated[int, typer.Option(min=64, help="of the picture whose memory is measured")] = 2048,
    seam_side: Annotated[int, typer.Option(min=64, help="of the pictures whose seams are measured")] = 1024,
    steps: Annotated[int, typer.Option(min=1, help="of the picture that the model draws")] = 10,
    out: Out = None,
) -> None:
    """Measure what tiles save, and what they cost: each run of the VAE has a process of its own, on one thread."""
    console = Console()
    with result_file(out) as path, console.status(""):
        tiling = Tiling(side=RequestRules().tile_side, overlap=RequestRules().tile_overlap)
        source = Image.open(picture).convert("RGB")
        found = {
            "tiling": tiling.model_dump(),
            "costs": {str(name): asdict(cost) for name, cost in _costs(bundle, source, side, tiling).items()},
            "seams": {name: asdict(seams) for name, seams in _seams(bundle, source, seam_side, steps, tiling).items()},
        }
        path.write_text(json.dumps(found, indent=2), encoding="utf-8")
    for part, rows in (("costs", found["costs"]), ("seams", found["seams"])):
        assert isinstance(rows, dict), "both are by name"
        table = Table(part, *next(iter(rows.values())))
        for name, row in rows.items():
            table.add_row(
                name, *(f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" for value in row.values())
            )
        console.print(table)
    console.print(f"Written to {path}", soft_wrap=True)


def seams_of(tiled: Pixels, whole: Pixels, tiling: Tiling, downscale: int) -> Seams:
    """Compare two pictures [height, width, 3] of the same latents, one of which is decoded in tiles.

    Raises:
        BenchmarkError: they are too small for a second tile.
    """
    ours, theirs = (picture.astype(np.float64) for picture in (tiled, whole))
    grid = Grid.of(tiling, downscale)
    stride, overlap = grid.stride * downscale, (grid.side - grid.stride) * downscale
    at_seams, elsewhere, own = [], [], []
    for axis in (0, 1):
        change = np.abs(np.diff(ours - theirs, axis=axis)).mean(axis=(1 - axis, 2))
        own.append(np.abs(np.diff(theirs, axis=axis)).mean())
        # `change[line - 1]` is from the line before to this one
        lines = [line for start in range(stride, len(change), stride) for line in (start, start + overlap)]
        seams = [line - 1 for line in lines if line <= len(change)]
        at_seams += change[seams].tolist()
        elsewhere += np.delete(change, seams).tolist()
    if not at_seams:
        raise BenchmarkError(f"a picture of {whole.shape[1]}x{whole.shape[0]} has no second tile")
    return Seams(
        psnr_db=psnr(tiled, whole, _PEAK),
        largest=int(np.abs(ours - theirs).max()),
        seam_step=max(at_seams),
        other_step=float(np.mean(elsewhere)),
        own_step=float(np.mean(own)),
    )


def _costs(bundle: Path, source: Image.Image, side: int, tiling: Tiling) -> dict[str, Cost]:
    pixels = np.asarray(source.resize((side, side), Image.Resampling.LANCZOS))[np.newaxis]
    costs = {}
    for name, how in (("whole", None), ("tiles", tiling)):
        latents, costs[f"encode {side}x{side}, {name}"] = _alone(_encoded, bundle, pixels, how)
        _, costs[f"decode {side}x{side}, {name}"] = _alone(_decoded, bundle, latents, how)
    return costs


def _seams(bundle: Path, source: Image.Image, side: int, steps: int, tiling: Tiling) -> dict[str, Seams]:
    pixels = np.asarray(source.resize((side, side), Image.Resampling.LANCZOS))[np.newaxis]
    encoded, _ = _alone(_encoded, bundle, pixels, None)
    in_tiles, _ = _alone(_encoded, bundle, pixels, tiling)
    drawn, _ = _alone(_drawn, bundle, side, steps)
    downscale = side // encoded.shape[2]
    wholes = {name: _alone(_decoded, bundle, latents, None)[0] for name, latents in (("e", encoded), ("d", drawn))}
    pairs = {
        "decoded in tiles, an enlarged picture": (_alone(_decoded, bundle, encoded, tiling)[0], wholes["e"]),
        f"decoded in tiles, drawn in {steps} steps": (_alone(_decoded, bundle, drawn, tiling)[0], wholes["d"]),
        "encoded in tiles, an enlarged picture": (_alone(_decoded, bundle, in_tiles, None)[0], wholes["e"]),
    }
    return {name: seams_of(tiled[0], whole[0], tiling, downscale) for name, (tiled, whole) in pairs.items()}


def _alone(work: Callable[..., tuple[Found, float]], *arguments: Any) -> tuple[Found, Cost]:
    """What work gives in a process of its own, and what it took there."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        made, seconds = pool.submit(work, *arguments).result()
        peak = pool.submit(status_bytes, "VmHWM").result()
    if peak is None:
        raise BenchmarkError("this system does not say how much memory a process had at most")
    return made, Cost(peak, seconds)


def _encoded(bundle: Path, pixels: Pixels, tiling: Tiling | None) -> tuple[FloatArray, float]:
    stage = VaeEncoder(open_bundle(bundle, (Kind.VAE_ENCODER,))[Kind.VAE_ENCODER], SessionSettings(threads=1))
    started = time.perf_counter()
    mean = stage.encode(pixels, tiling).mean
    seconds = time.perf_counter() - started
    return to_model(mean, stage.space.scaling_factor, stage.space.shift_factor), seconds


def _decoded(bundle: Path, latents: FloatArray, tiling: Tiling | None) -> tuple[Pixels, float]:
    stage = VaeDecoder(open_bundle(bundle, (Kind.VAE_DECODER,))[Kind.VAE_DECODER], SessionSettings(threads=1))
    started = time.perf_counter()
    return stage.decode(latents, tiling), time.perf_counter() - started


def _drawn(bundle: Path, side: int, steps: int) -> tuple[FloatArray, float]:
    folders, settings = open_bundle(bundle, (Kind.TEXT_ENCODER, Kind.DENOISER)), SessionSettings(threads=1)
    encoder, denoiser = TextEncoder(folders[Kind.TEXT_ENCODER], settings), Denoiser(folders[Kind.DENOISER], settings)
    fields = RequestFields(prompt=_PROMPT, seed=1, steps=steps, width=side, height=side)
    request = check_request(fields, denoiser.contract, RequestRules(max_pixels=side**2))
    started = time.perf_counter()
    [job] = denoise_jobs(request, encoder.encode(request.texts), denoiser.contract)
    return denoiser.denoise(job), time.perf_counter() - started
