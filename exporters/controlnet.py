"""`python -m exporters.controlnet FOLDER --of DENOISER --out DIR`: a ControlNet becomes a component folder."""

from pathlib import Path
from typing import Annotated

import typer
from diffusers import ControlNetModel

from components.folder import ComponentFolder
from exporters.alone import AloneOptions, contract_of, export_alone, tell
from exporters.controlnet_network import controlnet
from exporters.lone_network import read_lone


def export_controlnet(path: Path, of: Path, out: Path, options: AloneOptions) -> ComponentFolder:
    """Export the ControlNetModel at `path` into `out`, for the denoiser component `of`.

    A component that is at `out` already is replaced once the new one is right.

    Raises:
        ComponentError: there is no component at `of`.
        ExportError: the checkpoint cannot be read or exported, is for another denoiser or is not exact, or a folder in
            the way is no component; nothing is replaced then.
    """
    return export_alone(lambda: controlnet(read_lone(ControlNetModel, path), contract_of(of)), path, out, options)


def main(
    folder: Annotated[Path, typer.Argument(help="a diffusers folder of a ControlNetModel")],
    of: Annotated[Path, typer.Option(help="the denoiser component whose pictures it is to hold")],
    out: Annotated[Path, typer.Option(help="the component folder to make")],
    source: Annotated[str | None, typer.Option(help="where the weights came from, for component.json")] = None,
    licence: Annotated[str | None, typer.Option(help="the licence of the weights, for component.json")] = None,
) -> None:
    """Export a ControlNet, held against torch."""
    tell(lambda: export_controlnet(folder, of, out, AloneOptions(source=source, licence=licence)))


if __name__ == "__main__":
    typer.run(main)
