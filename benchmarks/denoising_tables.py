"""The figures of the denoising engine on the terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from benchmarks.mixed_figures import MixedLoad, Starts, SystemFigures
from benchmarks.outside_figures import Outside

_WORDS = frozenset({"what it is"})


def outside_table(found: Iterable[Outside]) -> Table:
    """What each geometry costs outside `session.run`, in milliseconds of one run."""
    columns = ("walks", "session.run", "outside", "between runs", "share", "at most")
    table = new_table("milliseconds of one run and outside it, medians", "", *columns)
    for one in found:
        times = ("" if value is None else f"{value:.2f}" for value in (one.run_ms, one.outside_ms, one.between_ms))
        cells = (f"{one.walks}", *times, f"{one.share:.2%}", f"{one.limit:.0%}")
        table.add_row(one.geometry, *cells)
    return table


def show_mixed(load: MixedLoad, console: Console) -> None:
    """Print both systems beside each other, and how soon the step loop's walks began."""
    systems = {"step loop": load.step_loop, "first come": load.first_come}
    table = new_table("mixed load: milliseconds from arrival to latents", "", *systems)
    rows = [_latencies(figures) for figures in systems.values()]
    for name in rows[0]:
        table.add_row(name, *(row[name] for row in rows))
    console.print(table)
    console.print(
        f"{load.offered_per_second:.2f} requests a second were offered, {load.step_loop.short_ms.count} short ones of "
        f"all. p99 of the short ones: {load.short_p99_ratio:.3f} times the first-come queue's."
    )
    console.print(_starts(load.starts))


def new_table(title: str, *columns: str) -> Table:
    """A table with a title; numbers stand to the right."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        numbers = index > 0 and column not in _WORDS
        table.add_column(column, justify="right" if numbers else "left")
    return table


def _latencies(figures: SystemFigures) -> dict[str, str]:
    rows = {"saturated, pictures per second": f"{figures.capacity:.2f}"}
    rows["this load, pictures per second"] = f"{figures.pictures_per_second:.2f}"
    for name, found in (("short", figures.short_ms), ("long", figures.long_ms)):
        if found is not None:
            each = {"p50": found.p50, "p90": found.p90, "p99": found.p99, "most": found.most}
            rows |= {f"{name}, {which}": f"{value:.0f}" for which, value in each.items()}
    return rows


def _starts(starts: Starts) -> Table:
    table = new_table("walks by the runs that began between arrival and start", "", "free row", "none free")
    for waited in sorted(starts.free_row.keys() | starts.no_free_row.keys()):
        table.add_row(f"{waited}", *(f"{counts.get(waited, 0)}" for counts in (starts.free_row, starts.no_free_row)))
    return table
