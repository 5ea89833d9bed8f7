"""The way from noise to latents that a sampler walks: pairs of sigma and timestep."""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from diffusion.arrays import Array, Table
from diffusion.errors import DiffusionError, require_integer
from diffusion.schedule import NoiseSchedule
from diffusion.spacing import Spacing, TimestepSpacing, spaced_timesteps

TimestepRule: TypeAlias = Literal["exact", "rounded"]

# Stands for the infinite sigma of zero terminal SNR in samplers that are defined there. The signal's share of the
# network's input is then 2**-24, half a unit in the last place of float32: nothing can tell it from none. A power of
# two so large is safe because these samplers only divide by it; 2**-12, Euler's floor, was 1e-3 off DDIM in one step.
ZERO_SNR_SIGMA = 2.0**24

# diffusers' Euler family puts alphas_cumprod 2**-24 in place of 0. Its sigma, sqrt(2**24 - 1), lies halfway between two
# float32 numbers; torch on x86 takes this one.
EULER_ZERO_SNR_SIGMA = 2.0**12


@dataclass(frozen=True, slots=True)
class Step:
    """One sampler move: ask the network at (`sigma`, `timestep`), land at `sigma_next`.

    `sigma_next` may differ from the next step's `sigma`: DDIM counts down by num_train_timesteps // steps wherever
    its next timestep lies.
    """

    timestep: float
    sigma: float
    sigma_next: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The steps of one walk, from most noise to least, and the standard deviation of the latents it starts from.

    Sigmas are those of x = x0 + sigma * noise (Karras et al. 2022). `timestep_rule` says whether timesteps between
    two training timesteps go to the network as they are or rounded.
    """

    steps: tuple[Step, ...]
    initial_deviation: float
    timestep_rule: TimestepRule

    @property
    def starts_at_zero_snr(self) -> bool:
        """Whether the first query holds nothing but noise."""
        return self.steps[0].sigma >= ZERO_SNR_SIGMA

    def initial_latents(self, noise: Array) -> Array:
        """Scale standard normal noise to the latents a whole walk starts from, float32."""
        return noise * np.float32(self.initial_deviation)

    def starting_at(self, step: int) -> "Trajectory":
        """Leave out the first `step` steps, as image-to-image does; its latents come from `add_noise` at that sigma.

        Raises DiffusionError unless at least one step is left.
        """
        require_integer("step", step, 0, len(self.steps) - 1)
        return replace(self, steps=self.steps[step:])


@dataclass(frozen=True, slots=True)
class Conventions:
    """What the diffusers scheduler of one sampler does where its formula leaves the choice open.

    `default_spacing` holds where the checkpoint's config names none. `lands` "next" moves to the next step's sigma,
    "stride" to the training timestep num_train_timesteps // steps lower. `ends` names the config field that decides
    the final sigma. `starts` "unit" makes the network's first input standard normal, "sigma" makes the latents
    sigma * noise unless the spacing is leading. `zero_snr_sigma` stands for the infinite one.
    """

    default_spacing: TimestepSpacing
    timestep_rule: TimestepRule
    lands: Literal["next", "stride"]
    ends: Literal["set_alpha_to_one", "final_sigmas_type"]
    starts: Literal["unit", "sigma"]
    zero_snr_sigma: float


def plan(schedule: NoiseSchedule, spacing: Spacing, steps: int, conventions: Conventions) -> Trajectory:
    """Lay out a whole walk of `steps` steps, equal to `from_config` and `set_timesteps` in diffusers.

    Raises DiffusionError unless 1 <= steps <= num_train_timesteps and every timestep was trained.
    """
    require_integer("steps", steps, 1, schedule.num_train_timesteps)
    kind = conventions.default_spacing if spacing.timestep_spacing is None else spacing.timestep_spacing
    table = np.where(np.isinf(schedule.sigmas), conventions.zero_snr_sigma, schedule.sigmas)
    timesteps = spaced_timesteps(kind, steps, schedule.num_train_timesteps, spacing.steps_offset)
    if conventions.timestep_rule == "rounded":
        timesteps = np.round(timesteps)
    if timesteps[0] > schedule.num_train_timesteps - 1:
        limit = (
            f"at most {schedule.num_train_timesteps - 1 - int(timesteps[0]) + spacing.steps_offset} for {steps} steps"
        )
        raise DiffusionError("steps_offset", spacing.steps_offset, limit)
    # The network sees timesteps and sigmas in float32, so they are rounded before anything is derived from them.
    timesteps = timesteps.astype(np.float32).astype(np.float64)
    sigmas = _sigmas_at(timesteps, table)
    landings = _landings(timesteps, sigmas, table, _final_sigma(spacing, conventions, table), conventions)
    walk = tuple(map(Step, timesteps.tolist(), sigmas.tolist(), landings))
    plain = conventions.starts == "sigma" and kind != "leading"
    return Trajectory(walk, walk[0].sigma if plain else math.hypot(1.0, walk[0].sigma), conventions.timestep_rule)


def _sigmas_at(timesteps: Table, table: Table) -> Table:
    return np.interp(timesteps, np.arange(len(table)), table).astype(np.float32).astype(np.float64)


def _final_sigma(spacing: Spacing, conventions: Conventions, table: Table) -> float:
    if conventions.ends == "set_alpha_to_one":
        return 0.0 if spacing.set_alpha_to_one else float(table[0])
    return 0.0 if spacing.final_sigmas_type == "zero" else float(table[0])


def _landings(timesteps: Table, sigmas: Table, table: Table, final: float, conventions: Conventions) -> list[float]:
    if conventions.lands == "next":
        return [*sigmas[1:].tolist(), final]
    lower = timesteps.astype(np.int64) - len(table) // len(timesteps)
    landings: Table = np.where(lower >= 0, table[np.maximum(lower, 0)], final)
    return [float(sigma) for sigma in landings]
