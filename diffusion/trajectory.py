"""The way from noise to latents that a sampler walks: pairs of sigma and timestep."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from diffusion.arrays import Array
from diffusion.errors import DiffusionError, require_between, require_integer
from diffusion.schedule import NoiseSchedule

TimestepRule: TypeAlias = Literal["exact", "rounded", "truncated"]

# Stands for the infinite sigma of zero terminal SNR in samplers that are defined there. The signal's share of the
# network's input is then 2**-24, half a unit in the last place of float32: nothing can tell it from none. A power of
# two so large is safe because these samplers only divide by it; 2**-12, Euler's floor, was 1e-3 off DDIM in one step.
ZERO_SNR_SIGMA = 2.0**24

# diffusers' Euler family puts alphas_cumprod 2**-24 in place of 0. Its sigma, sqrt(2**24 - 1), lies halfway between two
# float32 numbers; torch on x86 takes this one.
EULER_ZERO_SNR_SIGMA = 2.0**12


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Where a step asks the network a second time."""

    sigma: float
    timestep: float


@dataclass(frozen=True, slots=True)
class Step:
    """One sampler move: ask the network at (`sigma`, `timestep`), land at `sigma_next`.

    `sigma_next` may differ from the next step's `sigma`: DDIM counts down by num_train_timesteps // steps wherever
    its next timestep lies. `sigma_above` is the sigma that lies such a stride above, where the sampler counts down, and
    that of the whole step's start for one stage of a Runge-Kutta step.
    """

    timestep: float
    sigma: float
    sigma_next: float
    second: Evaluation | None = None
    sigma_above: float | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The steps of one walk, from most noise to least, and the standard deviation of the latents it starts from.

    Sigmas are those of x = x0 + sigma * noise (Karras et al. 2022), or where `flow` those of
    x = (1 - sigma) * x0 + sigma * noise. `timestep_rule` says whether timesteps between two training timesteps go to
    the network as they are, rounded or truncated. `skipped` are the steps of the plan that this walk leaves out.
    `stages` is how many of the first steps are stages of Runge-Kutta steps, four to each.
    """

    steps: tuple[Step, ...]
    initial_deviation: float
    timestep_rule: TimestepRule
    skipped: tuple[Step, ...] = ()
    flow: bool = False
    prediction_type: str = "epsilon"
    noise_schedule: NoiseSchedule | None = None
    stages: int = 0

    @property
    def starts_at_zero_snr(self) -> bool:
        """Whether the first query holds nothing but noise."""
        return self.steps[0].sigma >= ZERO_SNR_SIGMA

    @property
    def planned(self) -> int:
        """The number of steps of the whole plan, those left out included."""
        return len(self.skipped) + len(self.steps)

    @property
    def evaluations(self) -> int:
        """How many queries the walk makes."""
        return sum(1 if step.second is None else 2 for step in self.steps)

    def initial_latents(self, noise: Array) -> Array:
        """Scale standard normal noise to the latents a whole walk starts from, float32."""
        return noise * np.float32(self.initial_deviation)

    def noised(self, clean: Array, noise: Array, sigma: float | None = None) -> Array:
        """Noise clean latents to `sigma`; if not given to the first one, where image-to-image starts.

        Raises DiffusionError when the two shapes differ.
        """
        if clean.shape != noise.shape:
            raise DiffusionError("noise", f"shape {noise.shape}", f"of the latents' shape {clean.shape}")
        share = np.float32(self.steps[0].sigma if sigma is None else sigma)
        return (clean * (np.float32(1) - share) if self.flow else clean) + share * noise

    def of_strength(self, strength: float, steps: int) -> "Trajectory":
        """Leave out the first of `steps` steps, so that the share `strength` of them, 0..1, is left.

        Rounded as diffusers does, down and in a flow up. Raises DiffusionError where none is left, or as `starting_at`.
        """
        require_between("strength", strength, 0.0, 1.0)
        left_out = int(steps - steps * strength) if self.flow else steps - int(steps * strength)
        if left_out >= steps:
            raise DiffusionError(
                "strength", strength, "over 0" if self.flow else f"at least 1/{steps} for {steps} steps"
            )
        if left_out > 0 and self.stages > 0:
            raise DiffusionError("strength", strength, "1 where the checkpoint's skip_prk_steps is false")
        return self.starting_at(left_out)

    def starting_at(self, step: int) -> "Trajectory":
        """Leave out the first `step` steps, as image-to-image does; its latents come from `noised`.

        Raises DiffusionError unless at least one step is left, and where the walk begins with Runge-Kutta steps.
        """
        require_integer("step", step, 0, len(self.steps) - 1)
        if step > 0 and self.stages > 0:
            # diffusers goes on, with stages of one step and starts of another
            raise DiffusionError("step", step, "0 where the checkpoint's skip_prk_steps is false")
        return replace(self, steps=self.steps[step:], skipped=self.skipped + self.steps[:step])

    def between(self, start: float, end: float, num_train_timesteps: int) -> "Trajectory":
        """Leave out the steps before the fraction `start` of training's timesteps, and from the fraction `end` on.

        0 <= start < end <= 1. The latents of a walk that ends early still hold noise, and a walk that starts there goes
        on with them: the expert denoisers of Balaji et al. 2022, "eDiff-I", cut as diffusers does for SDXL's refiner.
        Raises DiffusionError unless at least one step is left, and where the walk begins with Runge-Kutta steps.
        """
        require_between("start", start, 0.0, 1.0)
        require_between("end", end, start, 1.0)
        if (start, end) != (0.0, 1.0) and self.stages > 0:
            field, value = ("start", start) if start > 0 else ("end", end)
            raise DiffusionError(field, value, f"{0 if field == 'start' else 1} for a walk of Runge-Kutta steps")
        first, last = (round(num_train_timesteps * (1 - share)) for share in (start, end))
        kept = [
            step for step in self.steps if (start == 0 or step.timestep < first) and (end == 1 or step.timestep >= last)
        ]
        if not kept:
            raise DiffusionError("end", end, f"late enough after {start:g} for one of {len(self.steps)} steps")
        before = self.steps.index(kept[0])
        return replace(self, steps=tuple(kept), skipped=self.skipped + self.steps[:before])
