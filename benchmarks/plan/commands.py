"""`python -m benchmarks plan`, and what it stands on: times that were measured, and a check against real runs."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.command_line import Out, result_file
from benchmarks.denoising_tables import new_table
from benchmarks.errors import BenchmarkError
from benchmarks.plan.advice import Advice, advise
from benchmarks.plan.calibration import ONE_THREAD, Calibration
from benchmarks.plan.check import Check, check
from benchmarks.plan.demand import Asked, mix_of, rate_of, seconds_of
from benchmarks.plan.paper import BurstPlan, BurstWay, LoadPoint, bursts, loads
from benchmarks.plan.plots import plot_bursts, plot_check, plot_loads
from benchmarks.plan.simulation import DENOISER, DEPLOYMENTS
from benchmarks.plan.times import StageTimes, read_times
from benchmarks.server import serving
from benchmarks.tables import machine_line
from services.client.blocking import Client

_MIX = "12x128x128=0.7,30x128x128=0.3"
_MIX_HELP = "STEPSxWIDTHxHEIGHT=SHARE of the guided pictures that are asked for, with commas between"
Mix = Annotated[str, typer.Option(help=_MIX_HELP)]
Bundle = Annotated[Path, typer.Option(help="the bundle's folder")]
Times = Annotated[Path | None, typer.Option(help="what plan-times has written; measured on this machine if not given")]
Url = Annotated[
    str | None, typer.Option(help="a server to measure, which does nothing else; one is started if not given")
]
_EMOJI = Path("models/emoji")


def plan(
    rate: Annotated[str, typer.Option(help="requests for one picture, such as 5/s, 300/min, 1000/h")],
    p95: Annotated[str, typer.Option(help="how soon 95 of 100 pictures are to be there, such as 3s or 800ms")],
    mix: Mix = _MIX,
    price: Annotated[
        list[str] | None, typer.Option(help="DEPLOYMENT=COST of a replica's hour, 1 if not given; for several, again")
    ] = None,
    times: Times = None,
    bundle: Bundle = _EMOJI,
    out: Out = None,
) -> None:
    """Advise how many replicas of each deployment answer so many requests that soon, and what they cost."""
    console = Console()
    with result_file(out) as path:
        asked, per_second, p95_s = mix_of(mix), rate_of(rate), seconds_of("--p95", p95)
        prices = _prices(price or [])
        with console.status("") as status:
            known = _measure(bundle, asked, None, status.update) if times is None else read_times(times)
            advice = advise(known, asked, per_second, p95_s, prices, status.update)
        path.write_text(json.dumps({"times": known.model_dump(), "advice": asdict(advice)}, indent=2) + "\n", "utf-8")
    _show_advice(advice, prices, console)
    console.print(f"Written to {path}", soft_wrap=True)


def plan_times(
    out: Annotated[Path, typer.Argument(help="the JSON file", dir_okay=False, writable=True)],
    mix: Mix = _MIX,
    url: Url = None,
    bundle: Bundle = _EMOJI,
) -> None:
    """Measure what each stage takes for pictures of the sizes of a mix, by the timelines of real requests."""
    console = Console()
    with result_file(out) as path, console.status("") as status:
        known = _measure(bundle, mix_of(mix), url, status.update)
        path.write_text(known.model_dump_json(indent=2) + "\n", encoding="utf-8")
    console.print(f"Written to {out}", soft_wrap=True)


def plan_check(
    mix: Mix = _MIX,
    load: Annotated[list[float], typer.Option(min=0.01, max=2, help="shares of the capacity")] = [0.3, 0.5, 0.7],  # noqa: B006 - typer copies it
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="of each load")] = 120.0,
    bundle: Bundle = _EMOJI,
    plot: Annotated[Path | None, typer.Option(help="a picture of it", dir_okay=False, writable=True)] = None,
    out: Out = None,
) -> None:
    """Hold the simulation against real runs on this machine: the same requests at the same moments."""
    console = Console()
    with result_file(out) as path:
        asked = mix_of(mix)
        with console.status("") as status:
            found = check(bundle.absolute(), asked, load, seconds, status.update)
        path.write_text(json.dumps(asdict(found), indent=2, default=StageTimes.model_dump) + "\n", encoding="utf-8")
        if plot is not None:
            plot_check(found, plot)
    _show_check(found, console)
    console.print(f"Written to {path}", soft_wrap=True)


def plan_figures(
    times: Annotated[Path, typer.Argument(help="what plan-times has written")],
    folder: Annotated[Path, typer.Argument(help="where plan-load.png and plan-burst.png go")] = Path("docs"),
    mix: Mix = _MIX,
    denoisers: Annotated[int, typer.Option(min=1, max=100_000, help="how many there are on paper")] = 1000,
    in_burst: Annotated[
        int, typer.Option(min=1, max=1000, help="and how many a burst needs: a quarter of an hour")
    ] = 100,
    out: Out = None,
) -> None:
    """Simulate a large system: under one load after the other, and in a burst of eight times the load."""
    console = Console()
    with result_file(out) as path:
        asked, known = mix_of(mix), read_times(times)
        with console.status("") as status:
            points = loads(known, asked, denoisers, status.update)
            ways = bursts(known, asked, in_burst, BurstPlan(), status.update)
        report = {"loads": [asdict(each) for each in points], "bursts": [asdict(each) for each in ways]}
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        plot_loads(points, denoisers, folder / "plan-load.png")
        plot_bursts(ways, folder / "plan-burst.png")
    _show_paper(points, ways, console)
    console.print(f"Written to {path}", soft_wrap=True)


def _measure(bundle: Path, mix: tuple[Asked, ...], url: str | None, say: Callable[[str], None]) -> StageTimes:
    folder = bundle.expanduser().absolute()
    sizes = sorted({each.size for each in mix}, key=str)
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    if url is not None:
        with Client(url) as client:
            return Calibration(client, folder).times(sizes, say, command)
    say("starting the server")
    with serving(folder, ONE_THREAD) as server, Client(server.url) as client:
        return Calibration(client, folder).times(sizes, say, command)


def _prices(given: list[str]) -> dict[str, float]:
    prices = dict.fromkeys(DEPLOYMENTS, 1.0)
    for word in given:
        name, _, cost = word.partition("=")
        try:
            value = float(cost)
        except ValueError:
            value = -1.0
        if name not in prices or not 0 <= value < float("inf"):
            raise BenchmarkError(f"--price {word}: must be DEPLOYMENT=COST, of {', '.join(DEPLOYMENTS)}, 0 or more")
        prices[name] = value
    return prices


def _show_advice(advice: Advice, prices: Mapping[str, float], console: Console) -> None:
    held = advice.held
    title = f"{advice.per_second:g} requests a second, p95 at most {advice.p95_s:g} s"
    table = new_table(title, "", "replicas", "for each denoiser", "at work", "cost an hour")
    for name, count in held.replicas.items():
        ratio = count / held.replicas[DENOISER]
        table.add_row(name, f"{count}", f"{ratio:.2f}", f"{held.utilisation[name]:.0%}", f"{count * prices[name]:g}")
    console.print(table)
    console.print(
        f"p50 {held.p50_s:.2f} s, p95 {held.p95_s:.2f} s, p99 {held.p99_s:.2f} s, refused: {held.refused}; "
        f"{advice.hourly:g} an hour, {advice.thousand:.3g} for 1,000 pictures"
    )


def _show_check(found: Check, console: Console) -> None:
    console.print(machine_line(found.machine))
    console.print(f"capacity: {found.capacity:.2f} pictures a second")
    columns = [f"load {each.load:g}" for each in found.loads]
    table = new_table("served and simulated", "", *columns)
    rows = {
        "requests a second": [f"{each.offered:.2f}" for each in found.loads],
        "pictures": [f"{len(each.served.seconds)}" for each in found.loads],
        "refused, served and simulated": [f"{each.served.refused}, {each.simulated.refused}" for each in found.loads],
        "pictures a second": [
            f"{each.served.per_second:.2f}, {each.simulated.per_second:.2f}: {each.throughput:.2f}"
            for each in found.loads
        ],
        "p50, s": [f"{each.served.p50_s:.3f}, {each.simulated.p50_s:.3f}" for each in found.loads],
        "p95, s": [f"{each.served.p95_s:.3f}, {each.simulated.p95_s:.3f}: {each.p95:.2f}" for each in found.loads],
        "the machine before and after": [f"{each.drift:.2f}, try {each.tries}" for each in found.loads],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def _show_paper(points: tuple[LoadPoint, ...], ways: tuple[BurstWay, ...], console: Console) -> None:
    table = new_table("loads", "load", "requests a second", "p50, s", "p99, s", "denoisers at work", "refused")
    for each in points:
        cells = (f"{each.per_second:.0f}", f"{each.p50_s:.2f}", f"{each.p99_s:.2f}")
        table.add_row(f"{each.load:g}", *cells, f"{each.utilisation[DENOISER]:.0%}", f"{each.refused:.2%}")
    console.print(table)
    table = new_table("a burst of eight times the load", "", "p50 in it, s", "p99 in it, s", "refused", "paid")
    for way in ways:
        seconds = (f"{way.burst_p50_s:.2f}", f"{way.burst_p99_s:.2f}")
        table.add_row(way.name, *seconds, f"{way.refused:.2%}", f"{way.paid:.2f}")
    console.print(table)
