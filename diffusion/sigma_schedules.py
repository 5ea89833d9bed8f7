"""Sigma schedules: how the noise falls from step to step, whatever the sampler."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from diffusion.arrays import Table
from diffusion.beta_quantile import symmetric_beta_quantile
from diffusion.errors import DiffusionError, unknown_name

Spread: TypeAlias = Callable[[int, float, float], Table]
Timesteps: TypeAlias = Callable[[int, int], Table]

DEFAULT = "default"

KARRAS_RHO = 7.0
BETA_SHAPE = 0.6

# Sabour et al. 2024: the ten-step noise levels that they publish for Stable Diffusion 1.5 and XL
_ALIGNED_SD15 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_ALIGNED_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def karras(steps: int, smallest: float, largest: float) -> Table:
    """Spread the seventh roots evenly: Karras et al. 2022, equation 5 with rho 7."""
    low, high = smallest ** (1 / KARRAS_RHO), largest ** (1 / KARRAS_RHO)
    sigmas: Table = np.power(high + np.linspace(0, 1, steps) * (low - high), KARRAS_RHO)
    return sigmas


def exponential(steps: int, smallest: float, largest: float) -> Table:
    """Spread the logarithms evenly: the DDIM-like limit of Karras et al. 2022, equation 5, as rho grows."""
    return np.exp(np.linspace(math.log(largest), math.log(smallest), steps))


def beta(steps: int, smallest: float, largest: float) -> Table:
    """Spread by the quantiles of Beta(0.6, 0.6), dense at both ends: Lee et al. 2024, beta sampling."""
    quantiles = symmetric_beta_quantile(1 - np.linspace(0, 1, steps), BETA_SHAPE)
    return smallest + quantiles * (largest - smallest)


def _align_your_steps(levels: tuple[float, ...]) -> Spread:
    def spread(steps: int, smallest: float, largest: float) -> Table:
        """Interpolate the logarithms of ten published noise levels, optimal for one model: Sabour et al. 2024."""
        # published for one range of noise: elsewhere these levels are nobody's optimum
        if not (abs(largest / levels[0] - 1) < 0.02 and abs(smallest / levels[-1] - 1) < 0.02):
            found = f"{smallest:.4g} to {largest:.4g}"
            raise DiffusionError(
                "schedule", "align_your_steps", f"another: its sigmas are Stable Diffusion's, not {found}"
            )
        places = np.linspace(0, len(levels) - 1, steps + 1)[:-1]
        return sigmas_at(places, np.array(levels))

    return spread


def simple(steps: int, num_train_timesteps: int) -> Table:
    """Take every (num_train_timesteps / steps)-th trained timestep from the last one on, as ComfyUI's `simple`."""
    timesteps: Table = num_train_timesteps - 1 - np.trunc(np.arange(steps) * (num_train_timesteps / steps))
    return timesteps


def sgm_uniform(steps: int, num_train_timesteps: int) -> Table:
    """Spread timesteps evenly with the last place left out: as ComfyUI's `sgm_uniform`."""
    return np.linspace(num_train_timesteps - 1, 0, steps + 1)[:-1]


@dataclass(frozen=True, slots=True)
class SigmaSchedule:
    """One row of the table: a spread of sigmas between two ends, or of timesteps over the trained ones, falling.

    `spread(steps, smallest, largest)` gives [steps] sigmas, `timesteps(steps, num_train_timesteps)` [steps] timesteps,
    perhaps fractional. `ends_at_table` spreads between the ends of the training schedule, whatever the spacing.
    """

    name: str
    spread: Spread | None = None
    timesteps: Timesteps | None = None
    ends_at_table: bool = False


SIGMA_SCHEDULES: Mapping[str, SigmaSchedule] = MappingProxyType(
    {
        row.name: row
        for row in (
            SigmaSchedule(DEFAULT),
            SigmaSchedule("karras", karras),
            SigmaSchedule("exponential", exponential),
            SigmaSchedule("beta", beta),
            SigmaSchedule("sgm_uniform", timesteps=sgm_uniform),
            SigmaSchedule("simple", timesteps=simple),
            SigmaSchedule("align_your_steps", _align_your_steps(_ALIGNED_SD15), ends_at_table=True),
            SigmaSchedule("align_your_steps_sdxl", _align_your_steps(_ALIGNED_SDXL), ends_at_table=True),
        )
    }
)


def find_sigma_schedule(name: str) -> SigmaSchedule:
    """Look a sigma schedule up by name; "default" is the checkpoint's own. Raises UnknownNameError."""
    if name not in SIGMA_SCHEDULES:
        raise unknown_name("schedule", name, SIGMA_SCHEDULES)
    return SIGMA_SCHEDULES[name]


def sigmas_at(timesteps: Table, table: Table) -> Table:
    """Interpolate the logarithms of `table`, rising sigmas by trained timestep, at fractional timesteps."""
    return np.exp(np.interp(timesteps, np.arange(len(table)), np.log(table)))


def timesteps_at(sigmas: Table, table: Table) -> Table:
    """Invert `sigmas_at`; sigmas beyond the table's ends take its end timesteps."""
    # The logarithms of the table are float32 as in diffusers: where a timestep is truncated, their rounding decides
    # whether the noisiest sigma of Stable Diffusion is told as 998 or as 999.
    logs = np.log(table.astype(np.float32)).astype(np.float64)
    wanted = np.log(np.maximum(sigmas, 1e-10))
    below = np.clip(np.searchsorted(logs, wanted, side="right") - 1, 0, len(table) - 2)
    share = np.clip((logs[below] - wanted) / (logs[below] - logs[below + 1]), 0, 1)
    timesteps: Table = (1 - share) * below + share * (below + 1)
    return timesteps
