"""What a run of `python -m benchmarks coldstart` has found: written, and on the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.bars import Bar, judge_copies, judge_new_replicas
from benchmarks.coldstart import Copies
from benchmarks.denoising_tables import new_table
from benchmarks.machine import Machine
from benchmarks.opening import Opening
from benchmarks.ratios import Comparison
from benchmarks.scaling import NewReplica
from benchmarks.tables import bars_table, machine_line, show_doubts

_MB, _GB = 1e6, 1e9
_PHASES = {
    "asked to process": "process_s",
    "imports, nearly all of them Ray's": "imports_s",
    "pins, fetch, open and warm-up": "start_s",
    "to running": "running_s",
    "serves after": "serves_s",
    "then, to its first answer": "first_answer_s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdstartReport:
    """All of a run; a part that was left out is None."""

    made: str
    command: str
    machine: Machine
    component: str
    copies: Copies | None
    opening: Comparison | None
    ready: Comparison | None
    running: Comparison | None
    new_replicas: tuple[NewReplica, ...] | None
    bars: tuple[Bar, ...]


def conclude(
    made: str,
    command: str,
    machine: Machine,
    component: str,
    copies: Copies | None,
    new_replicas: tuple[NewReplica, ...] | None,
) -> ColdstartReport:
    """Draw the conclusions of what was measured."""
    return ColdstartReport(
        made=made,
        command=command,
        machine=machine,
        component=component,
        copies=copies,
        opening=None if copies is None else copies.opening,
        ready=None if copies is None else copies.ready,
        running=None if copies is None else copies.running,
        new_replicas=new_replicas,
        bars=(
            *(() if copies is None else judge_copies(copies)),
            *(() if new_replicas is None else judge_new_replicas(new_replicas)),
        ),
    )


def show_coldstart(report: ColdstartReport, console: Console) -> None:
    """Print what a report says."""
    console.print(machine_line(report.machine))
    if report.copies is not None:
        copies = report.copies
        console.print(
            f"{report.component}: {copies.component_bytes / _GB:.2f} GB, its copy {copies.copy_bytes / _GB:.2f} GB, "
            f"made and tested in {copies.built_s:.0f} s by a child process"
        )
        console.print(_openings(copies))
        console.print(_runs(copies, report))
    if report.new_replicas is not None:
        console.print(_replicas(report.new_replicas))
    console.print(bars_table(report.bars))
    show_doubts(report.machine, console)


def _openings(copies: Copies) -> Table:
    columns = ("open, s", "of CPU, s", "warm-up, s", "private, MB", "cold, s", "and warm, s")
    table = new_table("opened from a warm page cache, medians; and once from the disk", "", *columns)
    sources = {
        "exported": (copies.exported, copies.exported_cold),
        "its copy": (copies.compiled, copies.compiled_cold),
    }
    for name, (warm, cold) in sources.items():
        table.add_row(
            name,
            f"{median(one.open_s for one in warm):.2f}",
            f"{median(one.open_cpu_s for one in warm):.2f}",
            f"{median(one.warm_up_s for one in warm):.2f}",
            f"{median(one.private_warm for one in warm) / _MB:.0f}",
            f"{cold.open_s:.2f}",
            f"{cold.open_s + cold.warm_up_s:.2f}",
        )
    table.add_row("second of it", *_second(copies.second))
    return table


def _second(second: Opening) -> tuple[str, ...]:
    return (
        f"{second.open_s:.2f}",
        f"{second.open_cpu_s:.2f}",
        f"{second.warm_up_s:.2f}",
        f"{second.private_warm / _MB:.0f}",
        "",
    )


def _runs(copies: Copies, report: ColdstartReport) -> Table:
    table = new_table("within each round", "", "median", "least", "most")
    rows = {
        "opened, compiled / exported": report.opening,
        "opened and warm, the same": report.ready,
        "run, compiled / exported": report.running,
    }
    for name, found in rows.items():
        if found is not None:
            table.add_row(name, *(f"{value:.3f}" for value in (found.median, min(found.each), max(found.each))))
    for name, seconds in (("exported", copies.exported_run_s), ("compiled", copies.compiled_run_s)):
        cells = (f"{value:.3f}" for value in (median(seconds), min(seconds), max(seconds)))
        table.add_row(f"run, {name}, s", *cells)
    return table


def _replicas(replicas: Sequence[NewReplica]) -> Table:
    table = new_table("a new denoiser replica, s", "", "median", "least", "most")
    for name, field in _PHASES.items():
        seconds = [getattr(replica, field) for replica in replicas]
        table.add_row(name, *(f"{value:.2f}" for value in (median(seconds), min(seconds), max(seconds))))
    opened = [replica.open_s for replica in replicas if replica.open_s is not None]
    if opened:
        table.add_row("of that, open and warm-up", *(f"{v:.2f}" for v in (median(opened), min(opened), max(opened))))
    return table
