"""`python -m exporters CHECKPOINT --bundle NAME --out DIR`: a checkpoint becomes four component folders."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from components.errors import ComponentError
from components.folder import ComponentFolder
from exporters.bundle import BundleOptions, export_bundle
from exporters.component import summary
from exporters.errors import ExportError
from runtime.errors import RuntimeFault


class _Weights(enum.StrEnum):
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class _Prediction(enum.StrEnum):
    EPSILON = "epsilon"
    V_PREDICTION = "v_prediction"


def main(
    checkpoint: Annotated[Path, typer.Argument(help="a diffusers folder, or a single .safetensors file")],
    bundle: Annotated[str, typer.Option(help="the first part of the components' names")],
    out: Annotated[Path, typer.Option(help="where the component folders go")],
    weights: Annotated[_Weights, typer.Option(help="how weights are stored; float32 computes them")] = _Weights.FLOAT16,
    latent_space: Annotated[str | None, typer.Option(help="its name, if other bundles share it")] = None,
    source: Annotated[str | None, typer.Option(help="where the weights came from, for component.json")] = None,
    licence: Annotated[str | None, typer.Option(help="the licence of the weights, for component.json")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="what it draws best at, requests' default")] = None,
    configs: Annotated[
        Path | None, typer.Option(help="a single file's configurations, in diffusers' layout, in place of its family's")
    ] = None,
    without_t5: Annotated[bool, typer.Option(help="leave out the third text encoder of SD 3")] = False,
    prediction_type: Annotated[_Prediction | None, typer.Option(help="how a single file's denoiser predicts")] = None,
) -> None:
    """Export text encoder, denoiser, VAE decoder and VAE encoder, each held against torch."""
    options = BundleOptions(
        bundle,
        weights.value,
        latent_space,
        source,
        licence,
        guidance=guidance,
        configs=configs,
        without_t5=without_t5,
        prediction_type=None if prediction_type is None else prediction_type.value,
    )
    try:
        export_bundle(checkpoint, out, options, _tell)
    except (ComponentError, ExportError, RuntimeFault) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _tell(folder: ComponentFolder) -> None:
    typer.echo(summary(folder))


if __name__ == "__main__":
    typer.run(main)
