"""`python -m tests.diffusion.convergence FILE`: how the error of each deterministic sampler falls with its steps.

On a mixture of two Gaussians in one dimension, where the exact denoiser is known and so is where the ODE ends: it
keeps every point's quantile.
"""

import argparse
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diffusion.drive import run
from diffusion.samplers import SAMPLERS, Query, SamplerRow
from diffusion.trajectory import Evaluation, Step, Trajectory

Float64 = npt.NDArray[np.float64]

# weight, mean and deviation
MIXTURE = ((0.4, -1.0, 0.3), (0.6, 1.2, 0.5))
QUANTILES = np.linspace(0.02, 0.98, 13)
LAST = 0.1
STEPS = (32, 64, 128, 256)
ORDERED = tuple(name for name, row in SAMPLERS.items() if row.order is not None)


def noised(sigma: float, flow: bool) -> list[tuple[float, float, float, float]]:
    """The components at this noise: weight, mean, deviation, and the share that is signal."""
    signal = 1 - sigma if flow else 1.0
    return [(weight, signal * mean, math.hypot(signal * width, sigma), signal) for weight, mean, width in MIXTURE]


def estimate(x: Float64, sigma: float, flow: bool) -> Float64:
    """The mean of what was clean, given x: each component's own, weighted by how likely it is."""
    likely, means = [], []
    for (weight, mean, deviation, signal), (_, clean, width) in zip(noised(sigma, flow), MIXTURE, strict=True):
        likely.append(weight / deviation * np.exp(-0.5 * ((x - mean) / deviation) ** 2))
        means.append(clean + signal * (width / deviation) ** 2 * (x - mean))
    weights = np.array(likely) / np.sum(likely, axis=0)
    weighted: Float64 = np.sum(weights * np.array(means), axis=0)
    return weighted


def at_quantiles(sigma: float, flow: bool) -> Float64:
    """Where the quantiles lie at this noise, by halving."""
    return np.array([_at_quantile(quantile, sigma, flow) for quantile in QUANTILES])


def _at_quantile(quantile: float, sigma: float, flow: bool) -> float:
    low, high = -100.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        below = sum(w * (1 + math.erf((middle - mean) / d / math.sqrt(2))) / 2 for w, mean, d, _ in noised(sigma, flow))
        low, high = (middle, high) if below < quantile else (low, middle)
    return low


def walk(row: SamplerRow, steps: int) -> Trajectory:
    """Even steps of the logarithm of sigma, of a flow's sigma itself, with the queries that the sampler wants."""
    sigmas = (np.linspace(0.99, LAST, steps + 1) if row.flow else np.geomspace(10, LAST, steps + 1)).tolist()
    laid_out = []
    for sigma, following in pairwise(sigmas):
        at = {"once": None, "where it lands": following, "between": math.sqrt(sigma * following)}[row.conventions.asks]
        second = None if at is None else Evaluation(at, 0.0)
        laid_out.append(Step(0.0, sigma, following, second, sigma_above=sigmas[0]))
    if row.conventions.places == "second twice":
        laid_out.insert(1, laid_out[1])
    return Trajectory(tuple(laid_out), sigmas[0], "exact", flow=row.flow)


def error(name: str, steps: int) -> float:
    """The largest distance from the exact solution, in float64."""
    row = SAMPLERS[name]
    trajectory = walk(row, steps)
    start = at_quantiles(trajectory.steps[0].sigma, row.flow)

    def denoise(query: Query) -> Float64:
        return estimate(query.latents.astype(np.float64), query.sigma, row.flow)

    # the coroutines take any float type; float32 would hide small errors
    final = run(row.start(start, trajectory), denoise)  # type: ignore[arg-type]
    in_unit = row.conventions.starts == "unit" and not row.flow
    return float(np.abs(final * (math.hypot(1, LAST) if in_unit else 1.0) - at_quantiles(LAST, row.flow)).max())


def slope(errors: list[float], steps: tuple[int, ...] = STEPS) -> float:
    """The order that a line through the logarithms of steps and errors has."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def draw(file: Path) -> None:
    """Plot error against evaluations of the network."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    steps = (4, 8, 16, *STEPS, 512)
    figure, axes = plt.subplots(figsize=(9, 6.5), layout="constrained")
    styles = ("o-", "s-", "^-", "D-", "v-", "P-", "X-", "o--", "s--", "^--", "D--")
    for name, style in zip(ORDERED, styles, strict=True):
        errors = [error(name, count) for count in steps]
        counts = [walk(SAMPLERS[name], count).evaluations for count in steps]
        label = f"{name}: {slope(errors[3:-1]):.2f}"
        # DDIM and Euler are one method here: the first shows around the second
        around = {"markersize": 12, "fillstyle": "none"} if name == "ddim" else {"markersize": 6}
        axes.loglog(counts, errors, style, label=label, linewidth=1.6, alpha=0.85, **around)
    for order, begins in ((1, 3e-2), (2, 4e-3)):
        guide = np.array([100.0, 600.0])
        heights = begins * (100 / guide) ** order
        axes.loglog(guide, heights, ":", color="0.3", linewidth=1.8)
        axes.annotate(f" order {order}", (guide[1], heights[1]), color="0.2", fontsize=12, va="center")
    axes.set_xlabel("evaluations of the network", fontsize=13)
    axes.set_ylabel("largest error of the final latents", fontsize=13)
    axes.tick_params(labelsize=12)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(title="sampler: measured slope", fontsize=11, title_fontsize=12, loc="lower left", ncols=2)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Plot the order of convergence of the deterministic samplers.")
    parser.add_argument("file", type=Path, help="where the picture goes")
    draw(parser.parse_args().file)


if __name__ == "__main__":
    main()
