"""A report on the terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from benchmarks.bars import CORES, Bar
from benchmarks.denoising_tables import new_table, outside_table, show_mixed
from benchmarks.machine import Machine
from benchmarks.measurement import Measurement
from benchmarks.memory import MemoryPeaks
from benchmarks.report import Report

_MB = 1e6
_QUIET_LOAD = 0.5
# the rows of the first table, with the name that each path's medians have for it
_STAGES = {
    "text encoder": "text_encoder_ms",
    "denoiser, one step": "step_ms",
    "denoiser, all steps": "denoiser_ms",
    "VAE decoder": "vae_decoder_ms",
    "graph": "graph_ms",
    "whole": "whole_ms",
}
_PATHS = {"bare sessions": "bare", "TextToImage": "in_process", "served": "served"}
_COMPARISONS = {
    "TextToImage / bare": "in_process_over_bare",
    "served / bare": "served_over_bare",
    "served / TextToImage": "served_over_in_process",
    "served - bare, ms": "served_minus_bare_ms",
}


def show(report: Report, console: Console) -> None:
    """Print what a report says."""
    request, machine = report.settings["request"], report.machine
    console.print(
        f"{report.settings['bundle']}: {request['width']}x{request['height']}, {request['steps']} steps, "
        f"guidance {request['guidance']:g}, {request['sampler']}; {report.settings['rounds']} rounds\n"
        f"{machine_line(machine)}"
    )
    if report.measured is not None:
        for table in (_times(report), _ratios(report), _memory(report.measured.memory)):
            console.print(table)
        _show_rest(report.measured, report.medians["load"]["whole_ms"], console)
    if report.outside is not None:
        console.print(outside_table(report.outside))
    if report.mixed is not None:
        show_mixed(report.mixed, console)
    console.print(bars_table(report.bars))
    show_doubts(machine, console)


def show_doubts(machine: Machine, console: Console) -> None:
    """Print what speaks against comparing the figures with others."""
    if machine.load_average > _QUIET_LOAD:
        console.print("The machine was busy in the minute before; if it still was, these figures are too high.")
    if machine.cores != CORES:
        console.print(f"The bars are meant for {CORES} cores, this machine has {machine.cores}.")


def machine_line(machine: Machine) -> str:
    """On what was measured, in one line."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    return f"{machine.cores} cores of {machine.cpu}, load {machine.load_average:.1f} before; {libraries}"


def _show_rest(measured: Measurement, load_ms: float, console: Console) -> None:
    console.print(
        f"From the start of the server: {measured.ready_s:.1f} s to readiness, "
        f"{measured.first_picture_s:.1f} s to the first picture.\n"
        f"{measured.load.at_once} clients at once: {measured.load.pictures_per_second:.2f} pictures per second, "
        f"{load_ms:.0f} ms each."
    )
    own = measured.own_memory
    console.print(
        f"This process, with the sessions twice and Ray's library: {own.pss / _MB:.0f} MB proportional, "
        f"{own.peak_rss / _MB:.0f} MB resident at most."
    )


def _times(report: Report) -> Table:
    table = new_table("milliseconds of one picture, medians", "", *_PATHS)
    for stage, field in _STAGES.items():
        cells = (report.medians[path].get(field) for path in _PATHS.values())
        table.add_row(stage, *("" if cell is None else f"{cell:.2f}" for cell in cells))
    return table


def _ratios(report: Report) -> Table:
    table = new_table("within each round", "", "median", "least", "most")
    for name, key in _COMPARISONS.items():
        found = report.comparisons[key]
        table.add_row(name, *(f"{value:.3f}" for value in (found.median, min(found.each), max(found.each))))
    return table


def _memory(memory: MemoryPeaks) -> Table:
    table = new_table("peak memory under load, MB", "process", "what it is", "proportional", "resident, ever")
    for counted in (True, False):
        for process in memory.processes:
            if process.counted == counted:
                table.add_row(process.name, process.role, f"{process.pss / _MB:.0f}", f"{process.rss / _MB:.0f}")
        if counted:
            table.add_row("together", "held to the bar", f"{memory.counted_pss / _MB:.0f}", "")
            table.add_section()
    table.add_row("together", "everything", f"{memory.all_pss / _MB:.0f}", "")
    return table


def bars_table(bars: Iterable[Bar]) -> Table:
    """Every bar with its value and by how much it is missed."""
    table = new_table("bars", "", "value", "at most", "")
    for bar in bars:
        verdict = "met" if bar.met else f"missed by {bar.missed_by:.4g} {bar.unit}".rstrip()
        table.add_row(bar.name, f"{bar.value:.4g} {bar.unit}", f"{bar.limit:g} {bar.unit}", verdict)
    return table
