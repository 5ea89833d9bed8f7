"""`python -m benchmarks`: measure the served bundle beside its bare sessions and write what was found."""

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe_machine
from benchmarks.measurement import Effort, measure
from benchmarks.report import make_report, to_json
from benchmarks.tables import show
from benchmarks.task import read_task
from components.errors import ComponentError
from pipeline.errors import RequestError
from runtime.errors import RuntimeFault

_RESULTS = Path(__file__).resolve().parent / "results"


def main(
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji"),
    steps: Annotated[int | None, typer.Option(help="steps of a picture; the server's default if not given")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="how often to measure the three paths")] = 10,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="clients of the load, in which memory is measured")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(help="the JSON file; else a new one in benchmarks/results", dir_okay=False, writable=True),
    ] = None,
) -> None:
    """Measure bare ONNX sessions, TextToImage and the served path in one run; a bar that is missed is no failure."""
    path = _RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.json" if out is None else out
    console = Console()
    # by default it ends this process on the spot, and the server would stay
    signal.signal(signal.SIGTERM, _end)
    try:
        # before the minutes of measuring, not after them
        path.parent.mkdir(parents=True, exist_ok=True)
        task, effort, machine = read_task(bundle, steps), Effort(rounds, at_once), describe_machine()
        with console.status("") as status:
            measured = measure(task, effort, status.update)
        report = make_report(task, effort, machine=machine, measured=measured)
        show(report, console)
        path.write_text(to_json(report), encoding="utf-8")
    except (BenchmarkError, ComponentError, RequestError, RuntimeFault) as error:
        raise _failure(str(error)) from None
    except OSError as error:
        raise _failure(f"{path}: {error.strerror}") from None
    console.print(f"Written to {path}", soft_wrap=True)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _failure(sentence: str) -> typer.Exit:
    typer.echo(f"benchmarks: {sentence}", err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
