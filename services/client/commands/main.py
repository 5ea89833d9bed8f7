"""`python -m services.client`: pictures drawn, edited, compared and inspected by a server, from a shell."""

import sys

import typer

from services.client.commands import batch, drawing, looking, timeline
from services.client.commands.printing import exit_of, said, say
from services.client.errors import ClientError

app = typer.Typer(
    name="client",
    help="Pictures from a server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(drawing.app)
app.add_typer(looking.app)
app.add_typer(timeline.app)
app.add_typer(batch.app)


def main() -> None:
    """Run the command line; what goes wrong is one sentence on stderr, and docs/client.md tells the exit statuses."""
    try:
        app()
    except ClientError as error:
        say(said(error))
        sys.exit(exit_of(error))
