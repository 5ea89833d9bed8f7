"""How the command line writes, whom it calls, and with what status it ends."""

import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from registry.commands.server_status import DEFAULT_SERVER, KEY_VARIABLE, SERVER_VARIABLE
from services.client.blocking import Client
from services.client.errors import ClientError, InputError, ServerRefused, TimedOut, Unreachable

Url = Annotated[
    str | None, typer.Option("--url", help=f"The server; {SERVER_VARIABLE} if not given, else {DEFAULT_SERVER}.")
]
KeyFile = Annotated[Path | None, typer.Option(help=f"A file that holds the key; {KEY_VARIABLE} if not given.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]


class Exit(enum.IntEnum):
    """The status with which a command ends; docs/client.md tells them."""

    FAILED = 1
    COMMAND = 2
    UNREACHABLE = 3
    REFUSED = 4
    BUSY = 5
    PARTLY = 6


def exit_of(error: ClientError) -> Exit:
    """The status of a command that ended in an error."""
    match error:
        case InputError():
            return Exit.COMMAND
        case Unreachable() | TimedOut():
            return Exit.UNREACHABLE
        case ServerRefused(busy=True):
            return Exit.BUSY
        case ServerRefused(status=status) if status is not None and 400 <= status < 500:
            return Exit.REFUSED
    return Exit.FAILED


def key_of(key_file: Path | None) -> str | None:
    """The key in a file; None leaves it to the environment.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    if key_file is None:
        return None
    try:
        key = key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise InputError(f"--key-file: cannot be read: {said}") from None
    if not key:
        raise InputError("--key-file: is empty")
    return key


def connected(url: str | None, key_file: Path | None) -> Client:
    """A client of the server that is named."""
    return Client(url, key_of(key_file))


def read_file(field: str, path: Path) -> bytes:
    """The bytes of a file that the command line names.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{field}: cannot be read: {error.strerror}") from None


def say(sentence: str) -> None:
    """Tell people, beside what programs read."""
    typer.echo(f"client: {printable(sentence)}", err=True)


def said(error: ClientError) -> str:
    """An error as one sentence, with what its request is found by."""
    return error.message if error.request_id is None else f"{error.message} (request {error.request_id})"


def printable(text: str) -> str:
    """Without what would steer a terminal: anybody may have written a file's texts."""
    return "".join(character if character.isprintable() else "?" for character in text)


def write(data: Any, facts: Sequence[tuple[str, str]], as_json: bool) -> None:
    """Write `data` as JSON, or the facts in two columns."""
    if as_json:
        typer.echo(json.dumps(data, indent=2))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, fact in facts:
        table.add_row(name, "\n".join(map(printable, fact.split("\n"))))
    Console(markup=False, highlight=False).print(table)
