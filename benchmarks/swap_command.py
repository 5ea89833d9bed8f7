"""`python -m benchmarks swap`: VAE decoders swapped under load."""

import json
import shlex
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.bars import Bar, judge_swaps
from benchmarks.command_line import Out, result_file
from benchmarks.denoising_tables import new_table
from benchmarks.machine import Machine, describe_machine
from benchmarks.swap import Scene, SwapEffort, measure_swaps
from benchmarks.swap_figures import SwapFigures
from benchmarks.tables import bars_table, machine_line, show_doubts
from components.contract import PARTS
from pipeline.bundle import open_bundle

_ALL = list(Scene)
_WHOLE = SwapEffort()
_QUICK_SECONDS, _QUICK_PROMOTIONS = 120.0, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapReport:
    """All of a run."""

    made: str
    command: str
    machine: Machine
    effort: SwapEffort
    scenes: tuple[SwapFigures, ...]
    bars: tuple[Bar, ...]


def swap(
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji"),
    scene: Annotated[list[Scene], typer.Option(help="what happens besides; all of them if not given")] = _ALL,
    seconds: Annotated[float, typer.Option(min=1, help="of each scene")] = _WHOLE.seconds,
    promotions: Annotated[int, typer.Option(min=1, help="in each scene")] = _WHOLE.promotions,
    load: Annotated[float, typer.Option(min=0.01, max=2, help="the load, as a share of the capacity")] = _WHOLE.load,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="of a picture")] = _WHOLE.steps,
    quick: Annotated[bool, typer.Option("--quick", help="two minutes and four promotions for each scene")] = False,
    out: Out = None,
) -> None:
    """Promote a bundle's two VAE decoders in turn under an open-loop load, and hold every picture to one of them."""
    console = Console()
    effort = SwapEffort(
        seconds=_QUICK_SECONDS if quick else seconds,
        promotions=_QUICK_PROMOTIONS if quick else promotions,
        load=load,
        steps=steps,
    )
    scenes = tuple(dict.fromkeys(scene))
    with result_file(out) as path:
        folder = bundle.expanduser().absolute()
        open_bundle(folder, PARTS)
        machine = describe_machine()
        with console.status("") as status:
            found = measure_swaps(folder, scenes, effort, status.update)
        words = ["python", "-m", "benchmarks", "swap", "--bundle", bundle.name]
        for each in scenes:
            words += ["--scene", each.value]
        words += ["--seconds", f"{effort.seconds:g}", "--promotions", str(effort.promotions)]
        words += ["--load", f"{load:g}", "--steps", str(steps)]
        made = datetime.now(UTC).isoformat(timespec="seconds")
        report = SwapReport(
            made=made,
            command=shlex.join(words),
            machine=machine,
            effort=effort,
            scenes=found,
            bars=judge_swaps(found),
        )
        _show(report, console)
        path.write_text(json.dumps(asdict(report), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    console.print(f"Written to {path}", soft_wrap=True)


def _show(report: SwapReport, console: Console) -> None:
    console.print(machine_line(report.machine))
    table = new_table("versions swapped under load", "", *(one.scene for one in report.scenes))
    rows = {
        "requests": [f"{one.requests}" for one in report.scenes],
        "of versions": [", ".join(f"{v}: {n}" for v, n in one.versions.items()) for one in report.scenes],
        "failed": [f"{one.failed}" for one in report.scenes],
        "of neither version": [f"{one.wrong}" for one in report.scenes],
        "promotions followed, refused": [f"{one.promotions}, {one.refused}" for one in report.scenes],
        "the first of all took, s": [_number(one.opened_s) for one in report.scenes],
        "promote takes at most, s": [_number(one.promote_s) for one in report.scenes],
        "return to first request, s": [_number(one.slowest_s) for one in report.scenes],
        "p50 within, outside, ms": [_pair(one.p50_within_ms, one.p50_outside_ms) for one in report.scenes],
        "p99 within, outside, ms": [_pair(one.p99_within_ms, one.p99_outside_ms) for one in report.scenes],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)
    for one in report.scenes:
        if one.refusal is not None:
            console.print(f"{one.scene}: promote said: {one.refusal}", soft_wrap=True)
        for error in one.errors:
            console.print(f"{one.scene}: a request failed: {error}", soft_wrap=True)
    console.print(bars_table(report.bars))
    show_doubts(report.machine, console)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _pair(first: float | None, second: float | None) -> str:
    return "" if first is None or second is None else f"{first:.0f}, {second:.0f}"
