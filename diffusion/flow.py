"""The noise of flow matching: sigma is the share of noise in x = (1 - sigma) * x0 + sigma * noise."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from diffusion.arrays import Table
from diffusion.errors import DiffusionError, require_between, require_integer, unknown_name
from diffusion.schedule import MOST_TRAIN_TIMESTEPS

TimeShift: TypeAlias = Literal["exponential", "linear"]

MOST_SHIFT = 100.0


@dataclass(frozen=True, slots=True)
class DynamicShift:
    """A shift that grows with the picture, linear in its number of tokens (Esser et al. 2024; FLUX.1).

    The names are those of diffusers. Raises DiffusionError naming the field.
    """

    base_shift: float = 0.5
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096
    time_shift_type: TimeShift = "exponential"

    def __post_init__(self) -> None:
        """Check every field."""
        if self.time_shift_type not in get_args(TimeShift):
            raise unknown_name("time_shift_type", self.time_shift_type, get_args(TimeShift))
        for field, shift in (("base_shift", self.base_shift), ("max_shift", self.max_shift)):
            require_between(field, shift, 1e-3, MOST_SHIFT)
        require_integer("base_image_seq_len", self.base_image_seq_len, 1, 2**31 - 1)
        require_integer("max_image_seq_len", self.max_image_seq_len, self.base_image_seq_len + 1, 2**31 - 1)

    def apply(self, sigmas: Table, image_tokens: int) -> Table:
        """Shift `sigmas`, within 0..1 and not 0, for a picture of that many tokens."""
        require_integer("image_tokens", image_tokens, 1, 2**31 - 1)
        slope = (self.max_shift - self.base_shift) / (self.max_image_seq_len - self.base_image_seq_len)
        mu = self.base_shift + slope * (image_tokens - self.base_image_seq_len)
        strength = math.exp(mu) if self.time_shift_type == "exponential" else mu
        return strength / (strength + (1 / sigmas - 1))


@dataclass(frozen=True, slots=True)
class FlowSchedule:
    """The noise schedule of a flow-matching checkpoint; timestep = num_train_timesteps * sigma.

    `shift` moves the walk towards more noise (Esser et al. 2024, equation 23); `dynamic`, where there, takes its place.
    Raises DiffusionError naming the field.
    """

    num_train_timesteps: int = 1000
    shift: float = 1.0
    dynamic: DynamicShift | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        require_integer("num_train_timesteps", self.num_train_timesteps, 2, MOST_TRAIN_TIMESTEPS)
        require_between("shift", self.shift, 1 / MOST_SHIFT, MOST_SHIFT)

    def sigmas(self, steps: int, image_tokens: int | None) -> Table:
        """Spread `steps` sigmas from 1 down, [steps]; a dynamic shift needs the number of image tokens."""
        require_integer("steps", steps, 1, self.num_train_timesteps)
        smallest = 1 / self.num_train_timesteps
        if self.dynamic is not None:
            if image_tokens is None:
                raise DiffusionError("image_tokens", image_tokens, "given where the flow shift is dynamic")
            return self.dynamic.apply(np.linspace(1, smallest, steps), image_tokens)
        # the smallest sigma is shifted twice, as diffusers has it: once here, once with the others
        return self._shifted(np.linspace(1, float(self._shifted(np.array(smallest))), steps))

    def _shifted(self, sigmas: Table) -> Table:
        shifted: Table = self.shift * sigmas / (1 + (self.shift - 1) * sigmas)
        return shifted
