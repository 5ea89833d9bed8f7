"""How the command line writes: a table for people, JSON for programs."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from components.reference import ComponentRef
from registry.registry import Registry
from registry.settings import RegistrySettings

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Name = Annotated[str, typer.Argument(help="A registered name, such as emoji.vae_decoder.")]


def connected() -> Registry:
    """The registry that the environment names."""
    return Registry.connect(RegistrySettings.from_environment())


def make_table(*columns: str) -> Table:
    """An empty table."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # nothing is cut off, however narrow the terminal
    return table


def show_refs(refs: list[ComponentRef], data: Any, as_json: bool) -> None:
    """Write exact versions."""
    table = make_table("name", "version", "sha256")
    for ref in refs:
        table.add_row(ref.name, str(ref.version), ref.sha256)
    write(data, table, as_json)


def printable(text: str) -> str:
    """Without what would steer a terminal: anyone may have written a tag."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def write(data: Any, table: Table, as_json: bool) -> None:
    """Write the one or the other."""
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        Console(markup=False, highlight=False).print(table)
