"""Which training timesteps a walk visits."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from diffusion.arrays import Table
from diffusion.errors import DiffusionError, require_integer, unknown_name

TimestepSpacing: TypeAlias = Literal["leading", "trailing", "linspace"]
FinalSigma: TypeAlias = Literal["zero", "sigma_min"]
Interpolation: TypeAlias = Literal["linear", "log_linear"]

# the steps of the teacher that latent consistency models are distilled from (Luo et al. 2023)
DISTILLED_STEPS = 50


@dataclass(frozen=True, slots=True)
class Spacing:
    """What a checkpoint's scheduler config says about timesteps; the names are those of diffusers.

    `timestep_spacing` None means that the config names none, and each sampler takes its own (Lin et al. 2023, table 2
    shows the three). `steps_offset` is added to leading timesteps only. `set_alpha_to_one` False ends a DDIM walk at
    the noise of the first training timestep; `final_sigmas_type` "sigma_min" does so for the Euler family.
    `skip_prk_steps` False starts a PNDM walk with three Runge-Kutta steps; diffusers' own default, but not this one.
    `interpolation_type` "log_linear" spreads the logarithms of an Euler walk's sigmas evenly over those of training,
    both ends included, whatever its timesteps.
    Raises UnknownNameError for another name, DiffusionError for a negative offset.
    """

    timestep_spacing: TimestepSpacing | None = None
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    final_sigmas_type: FinalSigma = "zero"
    skip_prk_steps: bool = True
    interpolation_type: Interpolation = "linear"

    def __post_init__(self) -> None:
        """Check every field."""
        if self.timestep_spacing is not None and self.timestep_spacing not in get_args(TimestepSpacing):
            raise unknown_name("timestep_spacing", self.timestep_spacing, get_args(TimestepSpacing))
        if self.final_sigmas_type not in get_args(FinalSigma):
            raise unknown_name("final_sigmas_type", self.final_sigmas_type, get_args(FinalSigma))
        if self.interpolation_type not in get_args(Interpolation):
            raise unknown_name("interpolation_type", self.interpolation_type, get_args(Interpolation))
        require_integer("steps_offset", self.steps_offset, 0, 2**31 - 1)


def spaced_timesteps(spacing: TimestepSpacing, steps: int, num_train_timesteps: int, steps_offset: int) -> Table:
    """Spread `steps` timesteps over 0..num_train_timesteps - 1, falling, [steps]; those of linspace are fractional."""
    if spacing == "linspace":
        return np.linspace(0, num_train_timesteps - 1, steps)[::-1]
    if spacing == "leading":
        return (np.arange(steps)[::-1] * (num_train_timesteps // steps) + steps_offset).astype(np.float64)
    # arange by a negative fraction, as diffusers has it: ties are rounded by its float error. That error also makes one
    # timestep too many, -1, at 62 of the step counts up to 1000 (61 is the first): it is dropped here.
    return np.round(np.arange(num_train_timesteps, 0, -num_train_timesteps / steps))[:steps] - 1


def distilled_timesteps(steps: int, num_train_timesteps: int) -> Table:
    """Choose `steps` of the 50 timesteps that a consistency model was distilled on, evenly from the noisiest, [steps].

    Raises DiffusionError for more steps than that.
    """
    if steps > DISTILLED_STEPS or num_train_timesteps < DISTILLED_STEPS:
        limit = f"at most {min(DISTILLED_STEPS, num_train_timesteps)} for a distilled model"
        raise DiffusionError("steps", steps, limit)
    learned = np.arange(DISTILLED_STEPS, 0, -1) * (num_train_timesteps // DISTILLED_STEPS) - 1
    return learned[np.floor(np.linspace(0, DISTILLED_STEPS, steps, endpoint=False)).astype(np.int64)].astype(np.float64)
