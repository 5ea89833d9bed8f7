"""What is added to the bundled model: the weights that are released beside it, its figures and its grids."""

import enum
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from diffusers import StableDiffusionPipeline, T2IAdapter, UNet2DConditionModel

from training import checkpoint, upscaler
from training.adapter_report import adapter_report
from training.addition_components import export_edges, export_x4
from training.image_to_image import image_to_image_report
from training.inpainting_report import inpainting_report
from training.page import Page, Shown
from training.pictures import PictureSet
from training.upscaler_report import upscaler_report

PAGE = "bundled-editing.md"
BUNDLE = "emoji"


class Addition(enum.StrEnum):
    """Their names on the command line, in the page and in its pictures."""

    IMAGE_TO_IMAGE = "image-to-image"
    INPAINTING = "inpainting"
    EDGES = "edges"
    X4 = "x4"


@dataclass(frozen=True)
class _Weights:
    """The folder that training leaves in the workspace, and the one below models/ that it is released to."""

    trained: Path
    released: Path


_WEIGHTS = {
    Addition.INPAINTING: _Weights(Path("inpainting/unet"), Path("emoji/inpainting/unet")),
    Addition.EDGES: _Weights(Path("adapter/adapter"), Path("emoji/adapters/edges")),
    Addition.X4: _Weights(Path("upscaler/checkpoint"), Path("emoji-x4/checkpoint")),
}
# those that are served make components of these weights, below the folder of models
_EXPORTS: Mapping[Addition, Callable[[Path, Path], None]] = {Addition.EDGES: export_edges, Addition.X4: export_x4}


def trained(addition: Addition, workspace: Path) -> Path | None:
    """Where training leaves an addition's weights; None for one that has none of its own."""
    weights = _WEIGHTS.get(addition)
    return None if weights is None else workspace / weights.trained


def released(addition: Addition, root: Path) -> Path | None:
    """Where an addition's weights are released to; None for one that has none of its own."""
    weights = _WEIGHTS.get(addition)
    return None if weights is None else root / "models" / weights.released


def report(
    addition: Addition, weights: Path | None, base: StableDiffusionPipeline, pictures: PictureSet, guidance: float
) -> Shown:
    """Measure an addition with these weights, and draw its grid."""
    reports: dict[Addition, Callable[[Path | None], Shown]] = {
        Addition.IMAGE_TO_IMAGE: lambda _: image_to_image_report(base, pictures, guidance),
        Addition.INPAINTING: lambda folder: inpainting_report(
            UNet2DConditionModel.from_pretrained(folder).eval(), base, pictures, guidance
        ),
        Addition.EDGES: lambda folder: adapter_report(
            T2IAdapter.from_pretrained(folder).eval(), base, pictures, guidance
        ),
        Addition.X4: lambda folder: upscaler_report(upscaler.load(Path(str(folder))), base, pictures),
    }
    return reports[addition](weights)


def export(addition: Addition, root: Path) -> None:
    """Make the components of an addition's released weights below `root`/models anew, where it has any.

    Raises:
        ComponentError: there is no denoiser that it is for.
        ExportError: a component is not exact; nothing is replaced then.
    """
    place, make = released(addition, root), _EXPORTS.get(addition)
    if place is not None and make is not None:
        make(place, root / "models")


def release(
    addition: Addition, weights: Path | None, base: Path, pictures: PictureSet, root: Path, guidance: float
) -> Shown:
    """Copy an addition's weights below `root`/models, export them, and write its grid and figures to `root`/docs.

    Weights and page are replaced when all is measured.

    Raises:
        PageError: the page has no place for the figures.
        ComponentError: there is no denoiser that it is for.
        ExportError: a component is not exact.
    """
    page = Page.open(root / "docs" / PAGE, addition.value)
    shown = report(addition, weights, checkpoint.load(base), pictures, guidance)
    place = released(addition, root)
    if weights is not None and place is not None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(weights, place)
        # all learned from the same pictures
        licences = root / "models" / BUNDLE / "licences"
        bundle = root / "models" / place.relative_to(root / "models").parts[0]
        if bundle.name != BUNDLE:
            shutil.copytree(licences, bundle / "licences", dirs_exist_ok=True)
        export(addition, root)
    shown.grid.save(root / "docs" / f"{addition.value}.png", optimize=True)
    page.write(shown.block(f"{addition.value}.png"))
    return shown
