"""Multistep methods on the predicted noise: LMS, DEIS and PNDM.

Where the betas are those of the cosine a walk begins at sigma 20,000, and the noise and the latents of a step nearly
cancel. DEIS and PNDM keep float64 between their queries, so that what is left is no rounding.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from diffusion.arrays import Array, Table
from diffusion.samplers.coroutine import Query, Sampler
from diffusion.samplers.multistep import FEW_STEPS
from diffusion.trajectory import Step, Trajectory

_Floats = TypeVar("_Floats", Array, Table)

_LMS_ORDER = 4

# the weights of the classical method's four stages
_RUNGE_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)

# the weights of Adams and Bashforth, newest first
_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def lms(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow the probability-flow ODE by the linear multistep method of Bashforth and Adams 1883, order 4, in sigma.

    The coefficients hold for uneven steps: integrals of Lagrange's polynomials through the last sigmas, as k-diffusion
    has it. A walk that starts at a later step takes the coefficients of that step though it has no past, as diffusers
    does: the first move is then too long and the next too short.
    """
    x = latents
    slopes: list[Array] = []
    sigmas = [step.sigma for step in (*trajectory.skipped, *trajectory.steps)]
    for position, step in enumerate(trajectory.steps, start=len(trajectory.skipped)):
        denoised = yield Query(x, step.sigma, step.timestep)
        slopes = [(x - denoised) / step.sigma, *slopes[: _LMS_ORDER - 1]]
        nodes = sigmas[: position + 1][: -_LMS_ORDER - 1 : -1]
        weights = [_lagrange_integral(nodes, at, step.sigma, step.sigma_next) for at in range(len(slopes))]
        # summed before they meet x, which is huge where the betas are those of the cosine
        x = x + _weighted(slopes, weights)
    return x


def _lagrange_integral(nodes: list[float], at: int, start: float, end: float) -> float:
    """Integrate from `start` to `end` the polynomial that is 1 at one node and 0 at the others."""
    centre, half = (start + end) / 2, (end - start) / 2
    # Gauss's two points are exact to degree 3, which four nodes have
    return half * sum(_lagrange(nodes, at, centre + half * place) for place in (-math.sqrt(1 / 3), math.sqrt(1 / 3)))


def _lagrange(nodes: list[float], at: int, value: float) -> float:
    return math.prod((value - node) / (nodes[at] - node) for other, node in enumerate(nodes) if other != at)


def deis(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow the probability-flow ODE by DEIS: Zhang and Chen 2023, the log-rho variant of order 2.

    The noise is extrapolated along the logarithm of sigma. Ends at the smallest trained sigma; below 15 steps the last
    step is of first order. Returns latents of unit variance: alpha * x0 + sqrt(1 - alpha^2) * noise.
    """
    x = latents.astype(np.float64)
    before: tuple[float, Table] | None = None
    for position, step in enumerate(trajectory.steps):
        denoised = yield Query(x.astype(latents.dtype), step.sigma, step.timestep)
        slope: Table = (x - denoised) / step.sigma
        last = position == len(trajectory.steps) - 1
        if before is None or (last and trajectory.planned < FEW_STEPS):
            x = x + slope * (step.sigma_next - step.sigma)
        else:
            sigma_before, slope_before = before
            share = _log_integral(step, sigma_before)
            x = x + slope * (step.sigma_next - step.sigma - share) + slope_before * share
        before = (step.sigma, slope)
    return _unit(x, trajectory.steps[-1].sigma_next).astype(latents.dtype)


def _log_integral(step: Step, before: float) -> float:
    """Integrate over the step, in sigma, the line in log sigma that is 1 at `before` and 0 at the step's sigma."""

    def antiderivative(sigma: float) -> float:
        return sigma * (math.log(sigma / step.sigma) - 1)

    return (antiderivative(step.sigma_next) - antiderivative(step.sigma)) / math.log(before / step.sigma)


def pndm(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow PNDM's transfer by its linear multistep method: Liu et al. 2022, equations 11 and 12 (S-PNDM, F-PNDM).

    As diffusers' PNDMScheduler. With skip_prk_steps, as Stable Diffusion 1 has it, the second query repeats the first
    step in place of the Runge-Kutta start, wherever the walk starts; without, three Runge-Kutta steps of four queries
    come first. What is extrapolated is the network's output, so the trajectory says what that predicts. Returns latents
    of unit variance: alpha * x0 + sqrt(1 - alpha^2) * noise.
    """
    unit = start = _unit(latents.astype(np.float64), trajectory.steps[0].sigma)
    outputs: list[Table] = []
    stages: list[Table] = []
    predicts_v = trajectory.prediction_type == "v_prediction"
    for position, step in enumerate(trajectory.steps):
        query = Query((unit * math.hypot(1.0, step.sigma)).astype(latents.dtype), step.sigma, step.timestep)
        denoised = (yield query).astype(np.float64)
        # from the latents that the answer is about: rounded, they are not quite `unit`
        noise: Table = (query.latents - denoised) / step.sigma
        output = _unit(noise - denoised * step.sigma, step.sigma) if predicts_v else noise
        departs, lands = step.sigma, step.sigma_next
        if position < trajectory.stages:
            if position % 4 == 0:
                start, stages, outputs = unit, [], [output, *outputs]
            stages.append(output)
            mixed = _weighted(stages, _RUNGE_KUTTA) if len(stages) == 4 else output
            unit, departs = start, _above(step)
        elif position == 1:
            mixed, unit, departs, lands = (output + outputs[0]) * 0.5, start, _above(step), step.sigma
        else:
            outputs = [output, *outputs[:3]]
            mixed = _weighted(outputs, _ADAMS_BASHFORTH[len(outputs) - 1])
        if predicts_v:
            mixed = _unit(mixed + unit * departs, departs)
        unit = _unit(unit * math.hypot(1.0, departs) + mixed * (lands - departs), lands)
    return unit.astype(latents.dtype)


def _above(step: Step) -> float:
    assert step.sigma_above is not None, "the plan tells it where PNDM needs it"
    return step.sigma_above


def _unit(latents: Table, sigma: float) -> Table:
    """to_unit, in float64."""
    return latents / math.hypot(1.0, sigma)


def _weighted(arrays: Sequence[_Floats], weights: Sequence[float]) -> _Floats:
    total = arrays[0] * weights[0]
    for array, weight in zip(arrays[1:], weights[1:], strict=True):
        total = total + array * weight
    return total
