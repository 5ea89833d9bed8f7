"""Laying out a walk: spacing and sigma schedule of the checkpoint, in the conventions of one sampler."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np

from diffusion.arrays import Table
from diffusion.errors import DiffusionError, require_integer, unknown_name
from diffusion.flow import FlowSchedule
from diffusion.schedule import NoiseSchedule
from diffusion.sigma_schedules import (
    DEFAULT,
    SIGMA_SCHEDULES,
    SigmaSchedule,
    exponential,
    sigmas_at,
    timesteps_at,
)
from diffusion.spacing import Spacing, TimestepSpacing, distilled_timesteps, spaced_timesteps
from diffusion.trajectory import EULER_ZERO_SNR_SIGMA, Evaluation, Step, TimestepRule, Trajectory

# PNDM's, before its four-step method has a past
_RUNGE_KUTTA_STEPS = 3

KarrasRule: TypeAlias = TimestepRule | Literal["rounded, truncated for cosine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventions:
    """What the diffusers scheduler of one sampler does where its formula leaves the choice open.

    `default_spacing` holds where the checkpoint's config names none. `places` "one more" spaces one timestep more and
    leaves out the last, "distilled" takes those of a 50-step distillation whatever the spacing, "second twice" visits
    the second one twice. `timestep_rule` is for spaced timesteps, `karras_rule` for those of karras sigmas and
    `sigma_rule` for those of exponential and beta sigmas.
    `lands` "next" moves to the next step's sigma, "stride" to the training timestep num_train_timesteps // steps lower.
    `ends` names the config field that decides the final sigma, or says it. `starts` "unit" makes the network's first
    input standard normal, "sigma" makes the latents sigma * noise unless the spacing is leading.
    `asks` says where a step asks a second time: never, at the sigma it lands on, at the geometric mean of its two
    sigmas, or at that of its first and of what an ancestral step leaves of its second.
    `ranges` says between which sigmas a schedule spreads: those of the spaced timesteps, or of all trained ones.
    `zero_snr_sigma` stands for the infinite one. `interpolates` says that it heeds the config's `interpolation_type`.
    """

    default_spacing: TimestepSpacing
    timestep_rule: TimestepRule
    lands: Literal["next", "stride"] = "next"
    ends: Literal["set_alpha_to_one", "final_sigmas_type", "zero", "sigma_min"] = "zero"
    starts: Literal["unit", "sigma"] = "unit"
    zero_snr_sigma: float = EULER_ZERO_SNR_SIGMA
    places: Literal["plain", "one more", "distilled", "second twice"] = "plain"
    asks: Literal["once", "where it lands", "between", "between ancestral"] = "once"
    ranges: Literal["walk", "table"] = "walk"
    karras_rule: KarrasRule = "exact"
    sigma_rule: TimestepRule = "exact"
    takes_schedules: bool = True
    interpolates: bool = False


def taken_schedules(conventions: Conventions, flow: bool) -> tuple[str, ...]:
    """Name the sigma schedules that a sampler of these conventions walks."""
    if not conventions.takes_schedules:
        return (DEFAULT,)
    # a flow has no table of trained sigmas
    rows = SIGMA_SCHEDULES.values()
    return tuple(row.name for row in rows if not flow or row.name == DEFAULT or (row.spread and not row.ends_at_table))


def plan(
    schedule: NoiseSchedule, spacing: Spacing, steps: int, conventions: Conventions, sigma_schedule: str = DEFAULT
) -> Trajectory:
    """Lay out a whole walk of `steps` steps, equal to `from_config` and `set_timesteps` in diffusers.

    Raises DiffusionError unless 1 <= steps <= num_train_timesteps, every timestep was trained, and the sampler takes
    the sigma schedule.
    """
    require_integer("steps", steps, 1, schedule.num_train_timesteps)
    kind = conventions.default_spacing if spacing.timestep_spacing is None else spacing.timestep_spacing
    table = np.where(np.isinf(schedule.sigmas), conventions.zero_snr_sigma, schedule.sigmas)
    row = _chosen(sigma_schedule, taken_schedules(conventions, flow=False))
    timesteps = _placed(kind, steps, schedule.num_train_timesteps, spacing.steps_offset, conventions)
    rule = _rule(row, schedule, conventions)
    final = _final_sigma(spacing, conventions, table)
    if row.name == DEFAULT and conventions.interpolates and spacing.interpolation_type == "log_linear":
        told = _told(timesteps, rule)
        *levels, final = _float32(exponential(steps + 1, float(table[0]), float(table[-1]))).tolist()
        sigmas = np.array(levels)
    elif row.name == DEFAULT:
        told = _told(timesteps, rule)
        sigmas = _float32(np.interp(told, np.arange(len(table)), table))
    else:
        told, sigmas = _scheduled(row, timesteps, table, steps, conventions)
        told = _told(told, rule)
    _check_falling(steps, sigmas, row, conventions)
    stride = len(table) // steps
    nexts = [*sigmas[1:].tolist(), final]
    landings = _strided(told, table, stride, final) if conventions.lands == "stride" else nexts
    walk = _with_second(tuple(map(Step, told.tolist(), sigmas.tolist(), landings)), table, conventions)
    stages = 0
    if conventions.places == "second twice":
        if spacing.skip_prk_steps:
            walk = _second_twice(walk, table, stride)
        else:
            walk, stages = _runge_kutta_start(walk, table, stride), 4 * _RUNGE_KUTTA_STEPS
    plain = conventions.starts == "sigma" and kind != "leading"
    deviation = walk[0].sigma if plain else math.hypot(1.0, walk[0].sigma)
    return Trajectory(walk, deviation, rule, noise_schedule=schedule, stages=stages)


def plan_flow(
    schedule: FlowSchedule, steps: int, conventions: Conventions, sigma_schedule: str, image_tokens: int | None
) -> Trajectory:
    """Lay out a walk on a flow: sigma from near 1 to 0, the timestep its multiple.

    Raises DiffusionError for steps out of range, a schedule that spreads no sigmas, or a missing number of tokens.
    """
    row = _chosen(sigma_schedule, taken_schedules(conventions, flow=True))
    sigmas = schedule.sigmas(steps, image_tokens)
    if row.name != DEFAULT:
        assert row.spread is not None, "the others are no schedules of a flow"
        sigmas = row.spread(steps, float(sigmas[-1]), float(sigmas[0]))
    sigmas = _float32(sigmas)
    told = _float32(sigmas * schedule.num_train_timesteps)
    walk = tuple(map(Step, told.tolist(), sigmas.tolist(), [*sigmas[1:].tolist(), 0.0]))
    if conventions.asks == "where it lands":
        walk = _second_where_it_lands(walk)
    return Trajectory(walk, walk[0].sigma, "exact", flow=True, prediction_type="flow")


def _chosen(name: str, choices: Sequence[str]) -> SigmaSchedule:
    if name not in choices:
        raise unknown_name("schedule", name, choices)
    return SIGMA_SCHEDULES[name]


def _placed(kind: TimestepSpacing, steps: int, trained: int, offset: int, conventions: Conventions) -> Table:
    if conventions.places == "distilled":
        return distilled_timesteps(steps, trained)
    if conventions.places == "one more" and kind != "trailing":
        timesteps = spaced_timesteps(kind, steps + 1, trained, offset)[:-1]
    else:
        timesteps = spaced_timesteps(kind, steps, trained, offset)
    if conventions.timestep_rule == "rounded":
        timesteps = np.round(timesteps)
    if timesteps[0] > trained - 1:
        limit = f"at most {trained - 1 - int(timesteps[0]) + offset} for {steps} steps"
        raise DiffusionError("steps_offset", offset, limit)
    return timesteps


def _scheduled(
    row: SigmaSchedule, spaced: Table, table: Table, steps: int, conventions: Conventions
) -> tuple[Table, Table]:
    """The timesteps, before rounding, and sigmas of a sigma schedule."""
    if row.timesteps is not None:
        timesteps = row.timesteps(steps, len(table))
        return timesteps, _float32(sigmas_at(timesteps, table))
    assert row.spread is not None, "a row has the one or the other, but for the default"
    if row.ends_at_table or conventions.ranges == "table":
        ends = table[[0, -1]]
    else:
        ends = np.interp(spaced[[-1, 0]], np.arange(len(table)), table)
    sigmas = row.spread(steps, float(ends[0]), float(ends[1]))
    return timesteps_at(sigmas, table), _float32(sigmas)


def _rule(row: SigmaSchedule, schedule: NoiseSchedule, conventions: Conventions) -> TimestepRule:
    if row.name in ("exponential", "beta"):
        return conventions.sigma_rule
    if row.name != "karras":
        return conventions.timestep_rule
    if conventions.karras_rule == "rounded, truncated for cosine":
        return "truncated" if schedule.beta_schedule == "squaredcos_cap_v2" else "rounded"
    return conventions.karras_rule


def _told(timesteps: Table, rule: TimestepRule) -> Table:
    if rule == "rounded":
        timesteps = np.round(timesteps)
    elif rule == "truncated":
        timesteps = np.trunc(timesteps)
    return _float32(timesteps)


def _float32(values: Table) -> Table:
    # The network sees timesteps and sigmas in float32, so they are rounded before anything is derived from them.
    return values.astype(np.float32).astype(np.float64)


def _check_falling(steps: int, sigmas: Table, row: SigmaSchedule, conventions: Conventions) -> None:
    """Refuse a step that goes nowhere where the sampler would divide by its length."""
    divides = conventions.places == "one more" or row.name != DEFAULT
    if divides and not (np.diff(sigmas) < 0).all():
        raise DiffusionError("steps", steps, "fewer: two steps of this schedule would stand at one sigma")


def _final_sigma(spacing: Spacing, conventions: Conventions, table: Table) -> float:
    if conventions.ends == "zero":
        return 0.0
    if conventions.ends == "set_alpha_to_one":
        return 0.0 if spacing.set_alpha_to_one else float(table[0])
    if conventions.ends == "final_sigmas_type" and spacing.final_sigmas_type == "zero":
        return 0.0
    return float(table[0])


def _strided(timesteps: Table, table: Table, stride: int, final: float) -> list[float]:
    lower = timesteps.astype(np.int64) - stride
    landings: Table = np.where(lower >= 0, table[np.maximum(lower, 0)], final)
    return [float(sigma) for sigma in landings]


def _with_second(walk: tuple[Step, ...], table: Table, conventions: Conventions) -> tuple[Step, ...]:
    if conventions.asks == "once":
        return walk
    if conventions.asks == "where it lands":
        return _second_where_it_lands(walk)
    seconds = []
    for step in walk[:-1]:
        landing = step.sigma_next
        if conventions.asks == "between ancestral":
            # what is left below after fresh noise: ancestral(), with the whole share of noise
            landing = landing * (landing / step.sigma)
        seconds.append(math.sqrt(step.sigma * landing))
    sigmas = _float32(np.array(seconds))
    timesteps = _told(timesteps_at(sigmas, table), "exact").tolist() if seconds else []
    asked = [
        replace(step, second=Evaluation(*at)) for step, *at in zip(walk[:-1], sigmas.tolist(), timesteps, strict=True)
    ]
    return (*asked, walk[-1])


def _second_where_it_lands(walk: tuple[Step, ...]) -> tuple[Step, ...]:
    asked = [replace(step, second=Evaluation(after.sigma, after.timestep)) for step, after in pairwise(walk)]
    return (*asked, walk[-1])


def _second_twice(walk: tuple[Step, ...], table: Table, stride: int) -> tuple[Step, ...]:
    counted = tuple(
        replace(step, sigma_above=float(table[min(int(step.timestep) + stride, len(table) - 1)])) for step in walk
    )
    return (*counted[:2], *counted[1:])


def _runge_kutta_start(walk: tuple[Step, ...], table: Table, stride: int) -> tuple[Step, ...]:
    """Take the first three steps in four stages: at the start, twice at half a stride, at the next step's timestep."""
    if len(walk) <= _RUNGE_KUTTA_STEPS:
        raise DiffusionError("steps", len(walk), "at least 4 where the checkpoint's skip_prk_steps is false")
    half = stride // 2
    stages = []
    for step, following in pairwise(walk[: _RUNGE_KUTTA_STEPS + 1]):
        lower = int(following.timestep)
        # diffusers counts the middle up from below, but the first stage's landing down from above
        middle, landing = float(table[lower + half]), float(table[int(step.timestep) - half])
        stages += [
            Step(step.timestep, step.sigma, landing, sigma_above=step.sigma),
            Step(float(lower + half), middle, middle, sigma_above=step.sigma),
            Step(float(lower + half), middle, following.sigma, sigma_above=step.sigma),
            Step(following.timestep, following.sigma, following.sigma, sigma_above=step.sigma),
        ]
    return (*stages, *walk[_RUNGE_KUTTA_STEPS:])
