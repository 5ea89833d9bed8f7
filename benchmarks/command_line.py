"""What every command of `python -m benchmarks` does around its measurement."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from benchmarks.errors import BenchmarkError
from compiler.errors import CompilerError
from components.errors import ComponentError
from pipeline.errors import RequestError
from runtime.errors import RuntimeFault
from services.errors import ServingError

Out = Annotated[
    Path | None,
    typer.Option(help="the JSON file; else a new one in benchmarks/results", dir_okay=False, writable=True),
]

_RESULTS = Path(__file__).resolve().parent / "results"
_ERRORS = (BenchmarkError, CompilerError, ComponentError, RequestError, RuntimeFault, ServingError)


@contextmanager
def result_file(out: Path | None) -> Iterator[Path]:
    """A block that measures and writes the file that it is given; what goes wrong is one sentence and exit status 1."""
    path = _RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.json" if out is None else out
    # by default it ends this process on the spot, and what it has started would stay
    signal.signal(signal.SIGTERM, _end)
    try:
        # before the minutes of measuring, not after them
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except _ERRORS as error:
        raise _failure(str(error)) from None
    except OSError as error:
        raise _failure(f"{path}: {error.strerror}") from None


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _failure(sentence: str) -> typer.Exit:
    typer.echo(f"benchmarks: {sentence}", err=True)
    return typer.Exit(1)
