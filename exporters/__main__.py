"""`python -m exporters CHECKPOINT --bundle NAME --out DIR`: a checkpoint becomes component folders."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from components.errors import ComponentError
from components.folder import ComponentFolder
from exporters.adapter_files import Lora, TextualInversion
from exporters.bundle import BundleOptions, export_bundle
from exporters.component import summary
from exporters.edits import Edits
from exporters.errors import ExportError
from exporters.image_prompt import ImagePromptAdapter
from exporters.third_text_encoder import MOST_TOKENS, TOKENS
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
    t5_tokens: Annotated[
        int, typer.Option(min=1, max=MOST_TOKENS, help="how long texts are for the third text encoder of SD 3")
    ] = TOKENS,
    prediction_type: Annotated[_Prediction | None, typer.Option(help="how a single file's denoiser predicts")] = None,
    lora: Annotated[list[str], typer.Option(help="FILE[:SCALE] of a LoRA to merge, any number of them")] = [],  # noqa: B006
    textual_inversion: Annotated[list[str], typer.Option(help="FILE[:TOKEN] of new words, any number")] = [],  # noqa: B006
    lora_inputs: Annotated[bool, typer.Option(help="let each request bring LoRAs of its own")] = False,
    image_prompt: Annotated[
        Path | None, typer.Option(help="an IP-Adapter, so that requests may bring pictures")
    ] = None,
) -> None:
    """Export text encoders, denoiser, VAE decoder and VAE encoder, each held against torch."""
    try:
        options = BundleOptions(
            bundle,
            weights.value,
            latent_space,
            source,
            licence,
            guidance=guidance,
            configs=configs,
            without_t5=without_t5,
            t5_tokens=t5_tokens,
            prediction_type=None if prediction_type is None else prediction_type.value,
            edits=Edits(tuple(map(_lora, lora)), tuple(map(_textual_inversion, textual_inversion))),
            lora_inputs=lora_inputs,
            image_prompt=None if image_prompt is None else ImagePromptAdapter.read(image_prompt),
        )
        export_bundle(checkpoint, out, options, _tell)
    except (ComponentError, ExportError, RuntimeFault) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _lora(argument: str) -> Lora:
    file, _, scale = argument.rpartition(":")
    try:
        return Lora.read(Path(file), float(scale))
    except ValueError:
        # a name with a colon of its own, or none
        return Lora.read(Path(argument))


def _textual_inversion(argument: str) -> TextualInversion:
    file, _, token = argument.rpartition(":")
    return TextualInversion.read(Path(file), token) if file else TextualInversion.read(Path(argument))


def _tell(folder: ComponentFolder) -> None:
    typer.echo(summary(folder))


if __name__ == "__main__":
    typer.run(main)
