"""Plots of what the simulation says, and of what it was held against."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.plan.check import Check
from benchmarks.plan.paper import BurstWay, LoadPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#2f62c4", "#c4542f", "#2f9c6a", "#8a4fc0", "0.45")
_PER_INCH = 110
# above it the curve of the 99th percentile is one request's
_SHOWN_PERCENT = 99.0


def plot_check(found: Check, file: Path) -> None:
    """Percentiles of pictures' seconds, served and simulated, one panel for each load."""
    figure = _figure(4.2 * len(found.loads), 4.2)
    axes = figure.subplots(1, len(found.loads), sharey=True, squeeze=False)[0]
    percents = np.linspace(1, _SHOWN_PERCENT, 99)
    for each, axis in zip(found.loads, axes, strict=True):
        for name, one, colour, style in (
            ("served", each.served, _COLOURS[0], "-"),
            ("simulated", each.simulated, _COLOURS[1], "--"),
        ):
            axis.plot(np.percentile(one.seconds, percents), percents, style, color=colour, label=name, linewidth=2)
        axis.axhline(95, color="0.7", linewidth=1)
        axis.set_title(f"load {each.load:g}: {each.offered:.2f} requests/s, {len(each.served.seconds)} pictures")
        axis.set_xlabel("seconds from request to picture")
        axis.set_xlim(left=0)
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("percent of pictures that took no longer")
    axes[0].legend(loc="lower right")
    _save(figure, file)


def plot_loads(points: Sequence[LoadPoint], denoisers: int, file: Path) -> None:
    """Seconds of pictures, and how busy denoisers are, against the load."""
    figure = _figure(9, 5)
    left = figure.subplots()
    x = [each.load for each in points]
    left.semilogy(x, [each.p99_s for each in points], "o-", color=_COLOURS[1], label="p99", linewidth=2)
    left.semilogy(x, [each.p50_s for each in points], "s-", color=_COLOURS[0], label="p50", linewidth=2)
    left.set_xlabel(f"load, as a share of what {denoisers:,} denoisers do with full runs")
    left.set_ylabel("seconds from request to picture")
    left.grid(visible=True, which="both", alpha=0.25)
    right = left.twinx()
    busy = [100 * each.utilisation["denoiser"] for each in points]
    right.plot(x, busy, "^--", color=_COLOURS[2], label="denoisers at work", linewidth=2)
    right.plot(x, [100 * each.refused for each in points], "x:", color="0.35", label="refused")
    right.set_ylabel("percent")
    right.set_ylim(0, 105)
    handles = [line for axis in (left, right) for line in axis.get_legend_handles_labels()[0]]
    left.legend(handles, [str(line.get_label()) for line in handles], loc="upper left")
    _save(figure, file)


def plot_bursts(ways: Sequence[BurstWay], file: Path) -> None:
    """Over time: the requests, how many denoisers each way has, and the p99 of what was asked for then."""
    figure = _figure(9, 8)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1.4, 1.8))
    top.step(ways[0].moments, ways[0].per_second, where="post", color="0.3")
    top.set_ylabel("requests/s")
    end = ways[0].moments[-1]
    for way, colour in zip(ways, _COLOURS, strict=True):
        moments, counts = zip(*way.denoisers, strict=True)
        middle.step((*moments, end), (*counts, counts[-1]), where="post", color=colour, label=way.name, linewidth=2)
        known = [(at, p99) for at, p99 in zip(way.moments, way.p99_s, strict=True) if p99 is not None]
        bottom.semilogy([at for at, _ in known], [p99 for _, p99 in known], color=colour, label=way.name, linewidth=2)
    middle.set_ylabel("denoisers")
    bottom.set_ylabel("p99, seconds")
    bottom.set_xlabel("seconds")
    for axis in (top, middle, bottom):
        axis.grid(visible=True, alpha=0.3)
        axis.set_xlim(0, end)
        axis.set_ylim(bottom=None if axis is bottom else 0)
    figure.legend(*middle.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=9)
    _save(figure, file)


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchmarkError("plots need matplotlib: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=_PER_INCH)
