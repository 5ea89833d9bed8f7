"""`python -m exporters.decoder FOLDER --of COMPONENT --out DIR`: a small decoder becomes a component folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from components.contract import Kind, LatentSpace
from components.folder import ComponentFolder
from exporters.alone import AloneOptions, contract_of, export_alone, tell
from exporters.errors import ExportError
from exporters.tiny_decoder import read_tiny, tiny_decoder


@dataclass(frozen=True, kw_only=True)
class DecoderOptions(AloneOptions):
    """How a decoder becomes a component: a VAE decoder, or one for previews."""

    preview: bool = False


def export_decoder(path: Path, of: Path, out: Path, options: DecoderOptions) -> ComponentFolder:
    """Export the AutoencoderTiny at `path` into `out`, for the latent space of the component `of`.

    A component that is at `out` already is replaced once the new one is right.

    Raises:
        ComponentError: there is no component at `of`.
        ExportError: the checkpoint cannot be read or exported, is for other latents or is not exact, or a folder in the
            way is no component; nothing is replaced then.
    """
    kind = Kind.PREVIEW_DECODER if options.preview else Kind.VAE_DECODER
    return export_alone(lambda: tiny_decoder(read_tiny(path), kind, _latent_space(of)), path, out, options)


def main(
    folder: Annotated[Path, typer.Argument(help="a diffusers folder of an AutoencoderTiny: TAESD or one like it")],
    of: Annotated[Path, typer.Option(help="a component of the latent space that it decodes")],
    out: Annotated[Path, typer.Option(help="the component folder to make")],
    preview: Annotated[bool, typer.Option(help="make a preview_decoder, not a vae_decoder")] = False,
    source: Annotated[str | None, typer.Option(help="where the weights came from, for component.json")] = None,
    licence: Annotated[str | None, typer.Option(help="the licence of the weights, for component.json")] = None,
) -> None:
    """Export a small decoder, held against torch."""
    tell(lambda: export_decoder(folder, of, out, DecoderOptions(preview=preview, source=source, licence=licence)))


def _latent_space(of: Path) -> LatentSpace:
    contract = contract_of(of)
    if contract.latent_space is None:
        raise ExportError(f"{of.absolute().name}: a {contract.kind} has no latent space")
    return contract.latent_space


if __name__ == "__main__":
    typer.run(main)
