"""`python -m services.keys`: a new key and its line, and a look whether a file of keys is whole."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from services.errors import StartError
from services.keys.records import ROLES, KeyRecord, Role, check_name, digest_of, line_of, new_key
from services.keys.settings import KeyLimits
from services.keys.source import KeyFile

app = typer.Typer(
    name="keys", help="API keys.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="whose key it is: the tenant of what is asked for with it")],
    role: Annotated[list[str], typer.Option(help=f"what it may do, any of {', '.join(sorted(ROLES))}")] = ["images"],  # noqa: B006 - typer copies it
    pictures_per_minute: Annotated[
        float | None, typer.Option(help="as in docs/keys.md; the server's own if not given")
    ] = None,
    burst: Annotated[int | None, typer.Option(help="the same")] = None,
    concurrent_pictures: Annotated[int | None, typer.Option(help="the same")] = None,
) -> None:
    """Make a key; print it, which nobody can do again, and the line for the file of keys, which does not tell it."""
    key = new_key()
    try:
        limits = KeyLimits(
            pictures_per_minute=pictures_per_minute, burst=burst, concurrent_pictures=concurrent_pictures
        )
        limits.require_rate()
        record = KeyRecord(check_name(name), digest_of(key.encode()), _roles(role), limits)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _failure(" ".join([*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])) from None
    except ValueError as error:
        raise _failure(str(error)) from None
    typer.echo("The key, which is shown this once:", err=True)
    typer.echo(key)
    typer.echo("Its line for keys.file:", err=True)
    typer.echo(line_of(record))


@app.command()
def check(file: Annotated[Path, typer.Argument(help="a file of keys")]) -> None:
    """Say whether a file of keys is whole, before a server reads it."""
    try:
        records = KeyFile(file, KeyLimits()).read()
    except StartError as error:
        raise _failure(error.message) from None
    typer.echo(f"the file is whole: {len(records)} keys, {len({record.name for record in records})} names")


def _roles(given: list[str]) -> frozenset[Role]:
    if not set(given) <= ROLES:
        raise ValueError(f"--role: must be one of {', '.join(sorted(ROLES))}")
    return frozenset(role for role in ROLES if role in given)


def _failure(sentence: str) -> typer.Exit:
    typer.echo(f"keys: {sentence}", err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    app()
