"""`python -m exporters.decoder FOLDER --of COMPONENT --out DIR`: a small decoder becomes a component folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from components.contract import Kind, LatentSpace
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.manifest import Origin
from exporters.component import exporter_versions, require_replaceable, summary, write_component
from exporters.errors import ExportError
from exporters.storage import Weights
from exporters.tiny_decoder import read_tiny, tiny_decoder
from runtime.errors import RuntimeFault


@dataclass(frozen=True)
class DecoderOptions:
    """How a decoder becomes a component: a VAE decoder, or one for previews.

    `source` says where the weights came from, the checkpoint folder's name if not given.
    """

    preview: bool = False
    weights: Weights = "float16"
    source: str | None = None
    licence: str | None = None
    training_run: str | None = None


def export_decoder(path: Path, of: Path, out: Path, options: DecoderOptions) -> ComponentFolder:
    """Export the AutoencoderTiny at `path` into `out`, for the latent space of the component `of`.

    A component that is at `out` already is replaced once the new one is right.

    Raises:
        ComponentError: there is no component at `of`.
        ExportError: the checkpoint cannot be read or exported, is for other latents or is not exact, or a folder in the
            way is no component; nothing is replaced then.
    """
    require_replaceable(out)
    kind = Kind.PREVIEW_DECODER if options.preview else Kind.VAE_DECODER
    network = tiny_decoder(read_tiny(path), kind, _latent_space(of))
    source = path.absolute().name if options.source is None else options.source
    origin = Origin(
        source=source, licence=options.licence, training_run=options.training_run, exporter=exporter_versions()
    )
    # beside `out`, so that a rename brings it there
    partial = out.absolute().with_name(f".{out.absolute().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write_component(network, partial, options.weights, origin)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ComponentFolder.open(out)


def main(
    folder: Annotated[Path, typer.Argument(help="a diffusers folder of an AutoencoderTiny: TAESD or one like it")],
    of: Annotated[Path, typer.Option(help="a component of the latent space that it decodes")],
    out: Annotated[Path, typer.Option(help="the component folder to make")],
    preview: Annotated[bool, typer.Option(help="make a preview_decoder, not a vae_decoder")] = False,
    source: Annotated[str | None, typer.Option(help="where the weights came from, for component.json")] = None,
    licence: Annotated[str | None, typer.Option(help="the licence of the weights, for component.json")] = None,
) -> None:
    """Export a small decoder, held against torch."""
    try:
        made = export_decoder(folder, of, out, DecoderOptions(preview, source=source, licence=licence))
    except (ComponentError, ExportError, RuntimeFault) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(summary(made))


def _latent_space(of: Path) -> LatentSpace:
    contract = ComponentFolder.open(of).manifest.contract
    if contract.latent_space is None:
        raise ExportError(f"{of.absolute().name}: a {contract.kind} has no latent space")
    return contract.latent_space


if __name__ == "__main__":
    typer.run(main)
