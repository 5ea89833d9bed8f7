"""Samplers as coroutines: each yields a query, is sent the denoised estimate, and returns the final latents."""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from diffusion.arrays import Array
from diffusion.errors import DiffusionError, require_between, unknown_name
from diffusion.schedule import NoiseSchedule
from diffusion.spacing import Spacing
from diffusion.trajectory import EULER_ZERO_SNR_SIGMA, ZERO_SNR_SIGMA, Conventions, Trajectory, plan


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A question to the network: what are these latents without their noise?

    `latents` is x0 + sigma * noise, float32; `timestep` is what the network is told, whole or fractional.
    """

    latents: Array
    sigma: float
    timestep: float


Sampler: TypeAlias = Generator[Query, Array, Array]
Draw: TypeAlias = Callable[[], Array]


def euler(latents: Array, trajectory: Trajectory) -> Sampler:
    """Follow the probability-flow ODE by Euler's method: Karras et al. 2022, algorithm 1 without its second half.

    Takes latents of any shape at the first sigma and returns them at the last sigma.
    """
    x = latents
    for step in trajectory.steps:
        denoised = yield Query(x, step.sigma, step.timestep)
        # In this order on purpose. At zero terminal SNR x is in the thousands and its rounding shows in the result;
        # the same order of operations as diffusers rounds the same way.
        slope = (x - denoised) / step.sigma
        x = x + slope * (step.sigma_next - step.sigma)
    return x


def ddim(latents: Array, trajectory: Trajectory, eta: float = 0.0, draw: Draw | None = None) -> Sampler:
    """Follow the generalised reverse process of Song et al. 2021, equations 12 and 16, at any noise share eta.

    `eta` is 0 (DDIM, deterministic) to 1 (DDPM). `draw` gives the next standard normal array of the latents' shape;
    it is called once for each step if eta > 0, the last step included, as diffusers does. Takes latents
    x0 + sigma * noise and returns alpha * x0 + sqrt(1 - alpha^2) * noise, which at a last sigma of 0 are one.
    Raises DiffusionError for eta out of range, or without `draw`.
    """
    require_between("eta", eta, 0.0, 1.0)
    if eta == 0:
        return _ddim(latents, trajectory, 0.0, None)
    if draw is None:
        raise DiffusionError("draw", draw, f"a source of noise when eta={eta:g}")
    return _ddim(latents, trajectory, eta, draw)


def _ddim(latents: Array, trajectory: Trajectory, eta: float, draw: Draw | None) -> Sampler:
    # Between steps the latents have unit variance: a step may land beside the sigma that the next one asks at, and it
    # is in this coordinate that diffusers hands them over unchanged.
    unit = latents / math.hypot(1.0, trajectory.steps[0].sigma)
    for step in trajectory.steps:
        x = unit * math.hypot(1.0, step.sigma)
        denoised = yield Query(x, step.sigma, step.timestep)
        # Equation 16 with variances divided by alpha^2. The estimate comes first, so x, which is huge at zero terminal
        # SNR, meets it only after division by sigma.
        fresh = eta * step.sigma_next * math.sqrt(1.0 - (step.sigma_next / step.sigma) ** 2)
        kept = math.sqrt(step.sigma_next**2 - fresh**2)
        x = denoised + (x - denoised) / step.sigma * kept
        if draw is not None:
            x = x + draw() * fresh
        unit = x / math.hypot(1.0, step.sigma_next)
    return unit


SamplerFactory: TypeAlias = Callable[[Array, Trajectory, float, Draw | None], Sampler]


@dataclass(frozen=True, slots=True)
class SamplerRow:
    """One sampler of the table: its coroutine and the conventions of the diffusers scheduler of that name."""

    name: str
    factory: SamplerFactory
    conventions: Conventions
    takes_eta: bool = False

    def trajectory(self, schedule: NoiseSchedule, spacing: Spacing, steps: int) -> Trajectory:
        """Lay out `steps` steps on a checkpoint's schedule; raises DiffusionError naming the field."""
        return plan(schedule, spacing, steps, self.conventions)

    def start(self, latents: Array, trajectory: Trajectory, eta: float = 0.0, draw: Draw | None = None) -> Sampler:
        """Make the coroutine; raises DiffusionError for an eta that it cannot honour."""
        if eta != 0 and not self.takes_eta:
            raise DiffusionError("eta", eta, f"0 for {self.name}, which adds no noise")
        return self.factory(latents, trajectory, eta, draw)


_DDIM = SamplerRow(
    "ddim",
    ddim,
    Conventions(
        default_spacing="leading",
        timestep_rule="rounded",
        lands="stride",
        ends="set_alpha_to_one",
        starts="unit",
        zero_snr_sigma=ZERO_SNR_SIGMA,
    ),
    takes_eta=True,
)

_EULER = SamplerRow(
    "euler",
    lambda latents, trajectory, _eta, _draw: euler(latents, trajectory),
    Conventions(
        default_spacing="linspace",
        timestep_rule="exact",
        lands="next",
        ends="final_sigmas_type",
        starts="sigma",
        zero_snr_sigma=EULER_ZERO_SNR_SIGMA,
    ),
)

SAMPLERS: Mapping[str, SamplerRow] = MappingProxyType({row.name: row for row in (_DDIM, _EULER)})


def find_sampler(name: str) -> SamplerRow:
    """Look a sampler up by name; raises UnknownNameError listing the choices."""
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    return SAMPLERS[name]
