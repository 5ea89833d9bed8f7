"""How much noise each training timestep held."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from diffusion.arrays import Array, Table
from diffusion.errors import DiffusionError, require_between, require_integer, unknown_name

BetaSchedule: TypeAlias = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]

SMALLEST_BETA = 1e-7  # float32 takes 1 - beta for 1 below this
LARGEST_BETA = 0.9999
LARGEST_COSINE_BETA = 0.999
MOST_TRAIN_TIMESTEPS = 1_000_000


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise schedule of a checkpoint's training: one beta, the share of variance replaced, for each timestep.

    `beta_schedule`: "linear" (Ho et al. 2020), "scaled_linear" (linear in the square root, Rombach et al. 2022) or
    "squaredcos_cap_v2" (Nichol and Dhariwal 2021, equation 17; ignores both ends). `beta_start` and `beta_end` lie
    between 1e-7 and 0.9999. `rescale_betas_zero_snr` shifts the square roots so that the last timestep is pure noise
    (Lin et al. 2023, algorithm 1). Raises DiffusionError naming the field.
    """

    num_train_timesteps: int = 1000
    beta_schedule: BetaSchedule = "linear"
    beta_start: float = 0.0001
    beta_end: float = 0.02
    rescale_betas_zero_snr: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        require_integer("num_train_timesteps", self.num_train_timesteps, 2, MOST_TRAIN_TIMESTEPS)
        if self.beta_schedule not in _BETAS:
            raise unknown_name("beta_schedule", self.beta_schedule, _BETAS)
        for field, beta in (("beta_start", self.beta_start), ("beta_end", self.beta_end)):
            require_between(field, beta, SMALLEST_BETA, LARGEST_BETA)
        kept = self.alphas_cumprod[:-1] if self.rescale_betas_zero_snr else self.alphas_cumprod
        if kept[-1] == 0:
            raise DiffusionError(
                "beta_end", self.beta_end, f"less for {self.num_train_timesteps} timesteps: none is left"
            )

    @cached_property
    def alphas_cumprod(self) -> Table:
        """The share of variance that is still signal, [num_train_timesteps], falling; read-only.

        The last is exactly 0 when betas are rescaled to zero terminal SNR.
        """
        # Checkpoints were trained on float32 tables, and their rounding shows at both ends: the last entry of the
        # cosine schedule moves by 1.3e-5 of itself, where sigma is 20,000, and the first sigma of a rescaled one by
        # 1e-3 of itself.
        betas = _BETAS[self.beta_schedule](self).astype(np.float32)
        if self.rescale_betas_zero_snr:
            betas = _with_zero_terminal_snr(betas)
        return _read_only(_signal_left(betas).astype(np.float64))

    @cached_property
    def sigmas(self) -> Table:
        """The noise of x = x0 + sigma * noise at each timestep, [num_train_timesteps], rising; read-only.

        sigma = sqrt((1 - a) / a) for a = alphas_cumprod; the last is infinite at zero terminal SNR.
        """
        # float32 throughout, as where the network learned: 1 - a loses digits that a wider type would make up
        alphas_cumprod = self.alphas_cumprod.astype(np.float32)
        with np.errstate(divide="ignore"):
            sigmas: Array = np.sqrt((np.float32(1) - alphas_cumprod) / alphas_cumprod)
        return _read_only(sigmas.astype(np.float64))


def _linear(schedule: NoiseSchedule) -> Table:
    return _evenly(schedule.beta_start, schedule.beta_end, schedule.num_train_timesteps)


def _scaled_linear(schedule: NoiseSchedule) -> Table:
    roots = _evenly(math.sqrt(schedule.beta_start), math.sqrt(schedule.beta_end), schedule.num_train_timesteps)
    # float32, as where the network learned
    betas: Table = np.square(roots.astype(np.float32)).astype(np.float64)
    return betas


def _evenly(start: float, end: float, count: int) -> Table:
    """Spread numbers from `start` to `end`, both included, with the rounding of torch.linspace in float32."""
    first, last = np.float32(start), np.float32(end)
    stride = float((last - first) / np.float32(count - 1))
    places = np.arange(count)
    # torch counts up to the middle, and down from the end beyond it
    rising, falling = float(first) + stride * places, float(last) - stride * (count - 1 - places)
    return np.where(places < count // 2, rising, falling).astype(np.float32).astype(np.float64)


def _squared_cosine(schedule: NoiseSchedule) -> Table:
    times = np.arange(schedule.num_train_timesteps + 1) / schedule.num_train_timesteps
    signal = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    betas: Table = np.minimum(1 - signal[1:] / signal[:-1], LARGEST_COSINE_BETA)
    return betas


_BETAS = {"linear": _linear, "scaled_linear": _scaled_linear, "squaredcos_cap_v2": _squared_cosine}


def _signal_left(betas: Array) -> Array:
    return np.cumprod(np.float32(1) - betas, dtype=np.float64).astype(np.float32)


def _with_zero_terminal_snr(betas: Array) -> Array:
    # Lin et al. 2023, algorithm 1: the first root stays, the last becomes 0, the rest move in proportion
    roots = np.sqrt(_signal_left(betas))
    first, last = roots[0], roots[-1]
    signal = np.square((roots - last) * (first / (first - last)))
    rescaled: Array = np.float32(1) - np.concatenate([signal[:1], signal[1:] / signal[:-1]])
    return rescaled


def _read_only(table: Table) -> Table:
    table.flags.writeable = False
    return table
