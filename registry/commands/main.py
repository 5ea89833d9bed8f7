"""`python -m registry`: publish components, list and show them, move aliases."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from components.errors import ComponentError
from components.folder import ComponentFolder
from components.manifest import MANIFEST_NAME
from components.reference import DEFAULT_ALIAS, ComponentRef, Selector, registered_name
from registry.beside import mismatches
from registry.bundle import publish_for_user
from registry.commands import diff, fetch, gc, rollout
from registry.commands.printing import Json, connected, make_table, printable, show_refs, write
from registry.errors import RegistryError
from registry.registry import Registry
from registry.version import Version

app = typer.Typer(
    name="registry",
    help="Components and their versions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(rollout.app)
app.add_typer(diff.app)
app.add_typer(gc.app)
app.add_typer(fetch.app)


def main() -> None:
    """Run the command line; what goes wrong is one sentence on stderr and exit status 1."""
    # Our sentence says that a server is away; urllib3 would say it again for every attempt.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    try:
        app()
    except (RegistryError, ComponentError) as error:
        typer.echo(f"registry: {printable(str(error))}", err=True)
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
    single = (folder / MANIFEST_NAME).exists()
    if name is not None and not single:
        raise RegistryError(f"{folder.absolute().name}: no {MANIFEST_NAME}; --name is for a single component")
    registry = connected()
    if single:
        refs = [registry.publish(folder, _name(folder, bundle) if name is None else name)]
    else:
        refs = list(publish_for_user(registry, folder, folder.absolute().name if bundle is None else bundle))
    show_refs(refs, [ref.model_dump(mode="json") for ref in refs], as_json)
    for ref in refs:
        _warn_of_misfits(registry, ref)


@app.command("list")
def list_components(as_json: Json = False) -> None:
    """List all components, their versions and aliases."""
    registry = connected()
    table = make_table("name", "versions", "aliases")
    data = []
    for name in registry.names():
        versions = [version.ref.version for version in registry.versions(name)]
        aliases = registry.aliases(name)
        data.append({"name": name, "versions": versions, "aliases": aliases})
        pointers = ", ".join(f"{alias} -> {version}" for alias, version in sorted(aliases.items()))
        table.add_row(name, ", ".join(map(str, versions)), pointers)
    write(data, table, as_json)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="NAME for all its versions, NAME/VERSION or NAME@ALIAS for one.")],
    as_json: Json = False,
) -> None:
    """Show the versions of a component, or one version in full."""
    registry = connected()
    if "/" in what or "@" in what:
        ref = registry.resolve(Selector.parse(what))
        version = registry.version(ref.name, ref.version)
        write(version.model_dump(mode="json"), _one(version), as_json)
        return
    versions = registry.versions(what)
    table = make_table("version", "aliases", "weights", "latent space", "published", "sha256")
    for version in versions:
        table.add_row(*_cells(version))
    write([version.model_dump(mode="json") for version in versions], table, as_json)


@app.command()
def resolve(
    selector: Annotated[str, typer.Argument(help="NAME@ALIAS or NAME/VERSION.")], as_json: Json = False
) -> None:
    """Say which exact version a selector means now."""
    ref = connected().resolve(Selector.parse(selector))
    show_refs([ref], ref.model_dump(mode="json"), as_json)


def _warn_of_misfits(registry: Registry, ref: ComponentRef) -> None:
    """Say what does not fit production: to be published it need not, as what changes together comes one by one."""
    live = registry.in_production(ref.name.split(".")[0])
    for mismatch in mismatches(ref.name, registry.version(ref.name, ref.version).contract, live):
        typer.echo(f"registry: {ref} does not fit what is in {DEFAULT_ALIAS}: {printable(mismatch)}", err=True)


def _name(folder: Path, bundle: str | None) -> str:
    kind = ComponentFolder.open(folder).manifest.contract.kind
    return registered_name(folder.absolute().parent.name if bundle is None else bundle, kind)


def _cells(version: Version) -> list[str]:
    space = version.contract.latent_space
    return [
        str(version.ref.version),
        ", ".join(version.aliases),
        version.weights,
        "" if space is None else printable(space.id),
        f"{version.published:%Y-%m-%d %H:%M} UTC",
        version.ref.sha256[:12],
    ]


def _one(version: Version) -> Table:
    table = make_table("", "")
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
        table.add_row(printable(key), printable(value))
    return table
