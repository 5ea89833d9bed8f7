"""Who comes when: a seeded mixture of short and long requests, at the moments of a Poisson process."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from components.messages import ImageRequest

SHORT_STEPS, LONG_STEPS = 4, 50
SHORT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, and the second at which it comes; counted from the first moment of its load."""

    at_s: float
    request: ImageRequest


def mixture(request: ImageRequest, seed: int) -> Iterator[ImageRequest]:
    """Pictures like `request` without end, each of its own seed, `SHORT_SHARE` of them short; `seed` says which."""
    rng = np.random.default_rng(seed)
    for index in count():
        steps = SHORT_STEPS if rng.random() < SHORT_SHARE else LONG_STEPS
        yield replace(request, steps=steps, seed=request.seed + index)


def poisson(request: ImageRequest, per_second: float, shorts: int, seed: int) -> tuple[Arrival, ...]:
    """Let pictures of the mixture come at a mean rate until `shorts` short ones are there; `seed` says which and when.

    Raises:
        ValueError: there is no such load.
    """
    if not per_second > 0 or shorts < 1:
        raise ValueError(f"a load of {shorts} short requests at {per_second:g} a second")
    moments = np.random.default_rng((seed, 1))
    arrivals: list[Arrival] = []
    at_s = 0.0
    for one in mixture(request, seed):
        at_s += float(moments.exponential(1 / per_second))
        arrivals.append(Arrival(at_s, one))
        shorts -= one.steps == SHORT_STEPS
        if not shorts:
            break
    return tuple(arrivals)
