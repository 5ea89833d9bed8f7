"""What every sampler is: a generator of queries."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

from diffusion.arrays import Array
from diffusion.errors import DiffusionError


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


def require_draw(draw: Draw | None, sampler: str) -> Draw:
    """Give `draw`; raises DiffusionError when there is none."""
    if draw is None:
        raise DiffusionError("draw", draw, f"a source of noise for {sampler}")
    return draw


def to_unit(latents: Array, sigma: float) -> Array:
    """Bring x0 + sigma * noise to alpha * x0 + sqrt(1 - alpha^2) * noise; at sigma 0 they are one."""
    return latents / math.hypot(1.0, sigma)


def ancestral(sigma: float, sigma_next: float) -> tuple[float, float]:
    """Split a step to `sigma_next` into a deterministic one, further down, and fresh noise: (down, up).

    down^2 + up^2 = sigma_next^2, with the variance of the DDPM posterior for `up` (Song et al. 2021, equation 16,
    eta 1; Karras et al. 2022's coordinate).
    """
    up = sigma_next * math.sqrt(max(1.0 - (sigma_next / sigma) ** 2, 0.0))
    return sigma_next * (sigma_next / sigma), up
