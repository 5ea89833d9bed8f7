"""One network beside a bundle: written as a component folder of its own, in the place of an older one."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer

from components.contract import Contract
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.manifest import Origin
from exporters.component import exporter_versions, require_replaceable, summary, write_component
from exporters.errors import ExportError
from exporters.network import Network
from exporters.storage import Weights
from runtime.errors import RuntimeFault


@dataclass(frozen=True)
class AloneOptions:
    """How a network is stored, and what is told of it.

    `source` says where the weights came from, the checkpoint folder's name if not given.
    """

    weights: Weights = "float16"
    source: str | None = None
    licence: str | None = None
    training_run: str | None = None


def export_alone(make: Callable[[], Network], path: Path, out: Path, options: AloneOptions) -> ComponentFolder:
    """Export what `make` reads from the checkpoint folder `path` into `out`.

    A component that is at `out` already is replaced once the new one is right.

    Raises:
        ExportError: the network cannot be read or exported or is not exact, or a folder in the way is no component;
            nothing is replaced then.
    """
    require_replaceable(out)
    network = make()
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


def contract_of(component: Path) -> Contract:
    """The contract of the component that an export is made for.

    Raises:
        ComponentError: there is none.
    """
    return ComponentFolder.open(component).manifest.contract


def tell(export: Callable[[], ComponentFolder]) -> None:
    """Run an export for the command line: what was made goes to stdout, an error to stderr, with exit status 1."""
    try:
        made = export()
    except (ComponentError, ExportError, RuntimeFault) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(summary(made))
