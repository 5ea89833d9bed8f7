"""`batch`: the requests of a file, each drawn once."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from services.client.awaited import AsyncClient
from services.client.batch.journal import Journal
from services.client.batch.orders import Order, read_orders
from services.client.batch.work import Batch, Tally
from services.client.commands.following import Screen
from services.client.commands.printing import Exit, Json, KeyFile, Url, key_of, said, say, write
from services.client.errors import ClientError
from services.client.retries import Retries

app = typer.Typer()

# nobody waits for it here: a server that is full, or starts again, is waited for
_RETRIES = Retries(times=20)


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(help="JSON lines or CSV: a request in each, by the names of its fields.")],
    out: Annotated[Path, typer.Option(help="The folder for the pictures and the journal.")],
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="How many requests at a time.")] = 4,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a batch was broken off.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Have many requests drawn; what is done already is not drawn again."""
    orders = read_orders(file)
    screen = Screen.of(False, as_json=as_json)
    try:
        with Journal.opened(out, resume=resume) as journal, screen.bar() as bar:
            task = bar.add_task("requests", total=len(orders))

            def ended(order: Order, error: ClientError | None) -> None:
                if error is not None:
                    say(f"line {order.line}: {said(error)}")
                bar.advance(task)

            async def work() -> Tally:
                async with AsyncClient(url, key_of(key_file), retries=_RETRIES) as client:
                    # once, so that an address where nobody is does not keep anybody waiting
                    await client.ready()
                    return await Batch(client, journal, out, ended).work(orders, concurrency)

            tally = asyncio.run(work())
    except KeyboardInterrupt:
        say("stopped; --resume goes on")
        raise typer.Exit(128 + signal.SIGINT) from None
    _tell(tally, as_json)
    if tally.failed:
        raise typer.Exit(Exit.PARTLY)


def _tell(tally: Tally, as_json: bool) -> None:
    failed = [
        {"line": line, "message": error.message, "request_id": error.request_id} for line, error in tally.failed.items()
    ]
    facts = [("drawn", str(tally.drawn)), ("done before", str(tally.before)), ("failed", str(len(failed)))]
    write({"drawn": tally.drawn, "before": tally.before, "failed": failed}, facts, as_json)
