"""UniPC: one correction of each landing by the next query, which costs nothing more."""

import math

from diffusion.arrays import Array
from diffusion.samplers.coroutine import Query, Sampler, to_unit
from diffusion.trajectory import Trajectory

_ORDER = 2


def unipc(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow the probability-flow ODE by UniPC: Zhao et al. 2023, algorithms 1 and 2 (UniC, UniP), order 2, on data.

    Their B(h) is e^h - 1 ("bh2"). The estimate at a landing first corrects the landing, then predicts the next. The
    last step is of first order. Returns latents of unit variance: alpha * x0 + sqrt(1 - alpha^2) * noise.
    """
    x = corrected = latents
    past: list[tuple[float, Array]] = []
    order = 0
    for position, step in enumerate(trajectory.steps):
        denoised = yield Query(x, step.sigma, step.timestep)
        here = -math.log(step.sigma)
        corrected = _correct(corrected, past, (here, denoised), order) if past else x
        past = [*past[-1:], (here, denoised)]
        order = min(_ORDER, len(past), len(trajectory.steps) - position)
        kept = step.sigma_next / step.sigma
        x = corrected * kept + denoised * (1 - kept)
        if order == _ORDER:
            x = x + _divided(past, -math.log(kept)) * ((1 - kept) / 2)
    return to_unit(x, trajectory.steps[-1].sigma_next)


def _divided(past: list[tuple[float, Array]], length: float) -> Array:
    (before, earlier), (here, latest) = past[-2:]
    return (latest - earlier) * (length / (here - before))


def _correct(start: Array, past: list[tuple[float, Array]], landed: tuple[float, Array], order: int) -> Array:
    """Take the last step once more from `start`, its beginning, with the estimate at its landing (UniC)."""
    here, latest = past[-1]
    length = landed[0] - here
    kept = math.exp(-length)
    x: Array = start * kept + latest * (1 - kept)
    change = landed[1] - latest
    if order == 1:
        return x + change * ((1 - kept) / 2)
    # Two weights, by their sum and by their sum with the older one times `ratio`: the step is then exact where the
    # estimate is a parabola in log sigma.
    ratio = (past[-2][0] - here) / length
    total = 1 - (1 - kept) / length
    moment = 1 - 2 * total / length
    older = (total - moment) / (1 - ratio)
    corrected: Array = x + (past[-2][1] - latest) * (older / ratio) + change * (total - older)
    return corrected
