"""`python -m benchmarks coldstart`: what compiled copies gain, and how soon a new replica serves."""

import json
import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.coldstart import Rounds, measure_copies
from benchmarks.coldstart_report import conclude, show_coldstart
from benchmarks.command_line import Out, result_file
from benchmarks.machine import describe_machine
from benchmarks.scaling import measure_new_replicas
from components.contract import PARTS
from pipeline.bundle import open_bundle

_RANDOM = "SD 1.5's U-Net of random weights"


class Part(StrEnum):
    """One of the measurements."""

    COPIES = "copies"
    REPLICAS = "replicas"


_ALL = list(Part)


def coldstart(
    folder: Annotated[
        Path | None, typer.Option(help="an exported denoiser; else one of SD 1.5's size and random weights is written")
    ] = None,
    bundle: Annotated[Path, typer.Option(help="the bundle that new replicas are asked for of")] = Path("models/emoji"),
    part: Annotated[list[Part], typer.Option(help="what to measure; all of it if not given")] = _ALL,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="how often each is opened")] = 5,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="how often each is run")] = 7,
    replicas: Annotated[int, typer.Option(min=1, max=5, help="how many new replicas are asked for")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="of a session; every core if not given")] = None,
    out: Out = None,
) -> None:
    """Measure opening from a compiled copy beside opening the exported model, and a new denoiser replica by phase.

    A denoiser of SD 1.5's size takes 8 GB of disk for as long as it lasts, and as much memory to measure it warm.
    """
    console = Console()
    parts = tuple(dict.fromkeys(part))
    with result_file(out) as path:
        # before the minutes of measuring, not after them
        open_bundle(bundle.expanduser().absolute(), PARTS)
        machine = describe_machine()
        copies = new = None
        with console.status("") as status:
            if Part.COPIES in parts:
                copies = measure_copies(folder, Rounds(rounds, runs), threads, status.update)
            if Part.REPLICAS in parts:
                new = measure_new_replicas(bundle.expanduser().absolute(), replicas, status.update)
        words = ["python", "-m", "benchmarks", "coldstart", "--bundle", bundle.name]
        for each in parts:
            words += ["--part", each.value]
        words += ["--rounds", str(rounds), "--runs", str(runs), "--replicas", str(replicas)]
        words += [] if folder is None else ["--folder", folder.name]
        words += [] if threads is None else ["--threads", str(threads)]
        made = datetime.now(UTC).isoformat(timespec="seconds")
        name = _RANDOM if folder is None else folder.absolute().name
        report = conclude(made, shlex.join(words), machine, name, copies, new)
        show_coldstart(report, console)
        path.write_text(json.dumps(asdict(report), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    console.print(f"Written to {path}", soft_wrap=True)
