"""`python -m registry`: publish components, list and show them, move aliases."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from components.errors import ComponentError
from components.folder import ComponentFolder
from components.manifest import MANIFEST_NAME
from components.reference import DEFAULT_ALIAS, MAX_VERSION, ComponentRef, Selector, registered_name
from registry.bundle import publish_for_user
from registry.errors import RegistryError
from registry.registry import Registry
from registry.settings import RegistrySettings
from registry.version import Version

app = typer.Typer(
    name="registry",
    help="Components and their versions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Name = Annotated[str, typer.Argument(help="A registered name, such as emoji.vae_decoder.")]


def main() -> None:
    """Run the command line; what goes wrong is one sentence on stderr and exit status 1."""
    # Our sentence says that a server is away; urllib3 would say it again for every attempt.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    try:
        app()
    except (RegistryError, ComponentError) as error:
        typer.echo(f"registry: {error}", err=True)
        sys.exit(1)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A component folder, or a bundle folder that holds four of them.")],
    name: Annotated[str | None, typer.Option(help="The registered name of a component folder.")] = None,
    bundle: Annotated[str | None, typer.Option(help="The bundle that it belongs to.")] = None,
    as_json: Json = False,
) -> None:
    """Publish a component as a new version, or a bundle's four, whose alias production is set where it is unset.

    Without a name the folders give it: models/emoji is the bundle emoji, models/emoji/vae_decoder is
    emoji.vae_decoder.
    """
    if name is not None and bundle is not None:
        raise RegistryError("--name and --bundle: give only one of them")
    if (folder / MANIFEST_NAME).exists():
        refs = [_connected().publish(folder, _name(folder, bundle) if name is None else name)]
    elif name is not None:
        raise RegistryError(f"{folder.absolute().name}: no {MANIFEST_NAME}; --name is for a single component")
    else:
        refs = list(publish_for_user(_connected(), folder, folder.absolute().name if bundle is None else bundle))
    _show_refs(refs, [ref.model_dump(mode="json") for ref in refs], as_json)


@app.command("list")
def list_components(as_json: Json = False) -> None:
    """List all components, their versions and aliases."""
    registry = _connected()
    table = _table("name", "versions", "aliases")
    data = []
    for name in registry.names():
        versions = [version.ref.version for version in registry.versions(name)]
        aliases = registry.aliases(name)
        data.append({"name": name, "versions": versions, "aliases": aliases})
        pointers = ", ".join(f"{alias} -> {version}" for alias, version in sorted(aliases.items()))
        table.add_row(name, ", ".join(map(str, versions)), pointers)
    _write(data, table, as_json)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="NAME for all its versions, NAME/VERSION or NAME@ALIAS for one.")],
    as_json: Json = False,
) -> None:
    """Show the versions of a component, or one version in full."""
    registry = _connected()
    if "/" in what or "@" in what:
        ref = registry.resolve(Selector.parse(what))
        version = registry.version(ref.name, ref.version)
        _write(version.model_dump(mode="json"), _one(version), as_json)
        return
    versions = registry.versions(what)
    table = _table("version", "aliases", "weights", "latent space", "published", "sha256")
    for version in versions:
        table.add_row(*_cells(version))
    _write([version.model_dump(mode="json") for version in versions], table, as_json)


@app.command()
def promote(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, max=MAX_VERSION)],
    alias: Annotated[str, typer.Option(help="The alias to move.")] = DEFAULT_ALIAS,
    as_json: Json = False,
) -> None:
    """Point an alias at a version; production only at one that fits the rest of its bundle."""
    ref = _connected().promote(name, version, alias)
    _show_refs([ref], ref.model_dump(mode="json"), as_json)


@app.command()
def resolve(
    selector: Annotated[str, typer.Argument(help="NAME@ALIAS or NAME/VERSION.")], as_json: Json = False
) -> None:
    """Say which exact version a selector means now."""
    ref = _connected().resolve(Selector.parse(selector))
    _show_refs([ref], ref.model_dump(mode="json"), as_json)


def _connected() -> Registry:
    return Registry.connect(RegistrySettings.from_environment())


def _name(folder: Path, bundle: str | None) -> str:
    kind = ComponentFolder.open(folder).manifest.contract.kind
    return registered_name(folder.absolute().parent.name if bundle is None else bundle, kind)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # nothing is cut off, however narrow the terminal
    return table


def _show_refs(refs: list[ComponentRef], data: Any, as_json: bool) -> None:
    table = _table("name", "version", "sha256")
    for ref in refs:
        table.add_row(ref.name, str(ref.version), ref.sha256)
    _write(data, table, as_json)


def _cells(version: Version) -> list[str]:
    space = version.contract.latent_space
    return [
        str(version.ref.version),
        ", ".join(version.aliases),
        version.weights,
        "" if space is None else _printable(space.id),
        f"{version.published:%Y-%m-%d %H:%M} UTC",
        version.ref.sha256[:12],
    ]


def _one(version: Version) -> Table:
    table = _table("", "")
    table.show_header = False
    facts = {
        "version": str(version.ref),
        "sha256": version.ref.sha256,
        "aliases": ", ".join(version.aliases),
        "published": f"{version.published:%Y-%m-%d %H:%M:%S} UTC",
        **dict(sorted(version.tags.items())),
        "contract": version.contract.model_dump_json(indent=2, exclude_none=True),
    }
    for key, value in facts.items():
        table.add_row(_printable(key), _printable(value))
    return table


def _printable(text: str) -> str:
    """Without what would steer a terminal: anyone may have written a tag."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def _write(data: Any, table: Table, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        Console(markup=False, highlight=False).print(table)
