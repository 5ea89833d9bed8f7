"""`timeline`: what became of a request when."""

from pathlib import Path
from typing import Annotated

import typer

from services.client.answers import public
from services.client.commands.destination import Force
from services.client.commands.printing import Json, KeyFile, Url, connected, printable, write
from services.client.errors import InputError
from services.client.waterfall import as_svg, as_text

app = typer.Typer()


@app.command()
def timeline(
    request_id: Annotated[str, typer.Argument(help="The `x-request-id` of its answer.")],
    user: Annotated[str | None, typer.Option(help="Whose request it was.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the waterfall to this file too.")] = None,
    force: Force = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Show what became of a request when, as a waterfall; servers keep that for a time."""
    if svg is not None and svg.exists() and not force:
        raise InputError(f"{svg}: is there already; --force writes over it")
    with connected(url, key_file) as client:
        found = client.timeline(request_id, user=user)
    if svg is not None:
        try:
            svg.write_text(as_svg(found), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--svg: cannot be written: {error.strerror}") from None
    if as_json:
        write(public(found), [], as_json)
        return
    typer.echo("\n".join(map(printable, as_text(found).split("\n"))))
