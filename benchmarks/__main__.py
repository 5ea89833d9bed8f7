"""`python -m benchmarks`: measure the served bundle beside its bare sessions and write what was found.

Each further command measures one thing more, in a module of its own.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.cluster.command import cluster
from benchmarks.coldstart_command import coldstart
from benchmarks.command_line import Out, result_file
from benchmarks.effort import Effort, LoadEffort
from benchmarks.geometries import geometries, whole_network
from benchmarks.machine import describe_machine
from benchmarks.measurement import measure
from benchmarks.mixed_load import measure_mixed
from benchmarks.outside import Geometry, measure_outside
from benchmarks.parts import Part, Plan
from benchmarks.plan.commands import plan, plan_check, plan_figures, plan_times
from benchmarks.report import Found, make_report, to_json
from benchmarks.swap_command import swap
from benchmarks.tables import show
from benchmarks.task import Task, read_task
from benchmarks.tiles import tiles
from benchmarks.timeline_command import timeline
from components.contract import Kind

_ALL = list(Part)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(coldstart)
app.command()(swap)
app.command()(cluster)
app.command()(timeline)
app.command()(tiles)
app.command()(plan)
app.command()(plan_times)
app.command()(plan_check)
app.command()(plan_figures)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji"),
    steps: Annotated[int | None, typer.Option(help="steps of a picture; the server's default if not given")] = None,
    part: Annotated[list[Part], typer.Option(help="what to measure; all of it if not given")] = _ALL,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="how often to measure the three paths")] = 10,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="clients of the load, in which memory is measured")] = 4,
    shorts: Annotated[int, typer.Option(min=1, max=1_000_000, help="short requests of the mixed load")] = 1000,
    sd15: Annotated[Path | None, typer.Option(help="the folder of a bundle of SD 1.5's geometry")] = None,
    out: Out = None,
) -> None:
    """Measure the served path beside bare sessions, denoising outside session.run, and a mixed load on one denoiser.

    A bar that is missed is no failure.
    """
    if context.invoked_subcommand is not None:
        return
    console = Console()
    with result_file(out) as path:
        task, machine = read_task(bundle, steps), describe_machine()
        whole = None if sd15 is None else whole_network(sd15)
        plan = Plan(
            task.bundle.name,
            task.request.steps,
            tuple(dict.fromkeys(part)),
            Effort(rounds, at_once),
            LoadEffort(shorts),
            None if sd15 is None else sd15.name,
        )
        with console.status("") as status:
            found = _measure(task, plan, whole, status.update)
        report = make_report(task, plan, machine=machine, found=found)
        show(report, console)
        path.write_text(to_json(report), encoding="utf-8")
    console.print(f"Written to {path}", soft_wrap=True)


def _measure(task: Task, plan: Plan, whole: Geometry | None, say: Callable[[str], None]) -> Found:
    # the three paths first, so that the other parts' memory is not in this process's
    found = Found()
    if Part.PATHS in plan.parts:
        found = replace(found, paths=measure(task, plan.effort, say))
    if Part.OUTSIDE in plan.parts:
        with geometries(task) as chosen:
            all_of_them = chosen if whole is None else (*chosen, whole)
            each = [one for geometry in all_of_them for one in measure_outside(geometry, say)]
        found = replace(found, outside=tuple(each))
    if Part.MIXED in plan.parts:
        found = replace(found, mixed=measure_mixed(task.folders[Kind.DENOISER], task.request, plan.load, say))
    return found


if __name__ == "__main__":
    app()
