"""Driving one sampler to its end."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from diffusion.arrays import Array
from diffusion.drive import run
from diffusion.samplers import Query, Sampler

ZERO = np.zeros((1, 1), dtype=np.float32)


def counting(steps: int, closed: list[bool]) -> Sampler:
    latents = ZERO
    try:
        for step in range(steps):
            latents = latents + (yield Query(latents, float(steps - step), float(step)))
        return latents
    finally:
        closed.append(True)


def test_answers_every_query_and_returns_the_end() -> None:
    seen: list[tuple[int, float]] = []
    final = run(
        counting(3, []),
        lambda query: np.full((1, 1), query.sigma, dtype=np.float32),
        lambda evaluation, query, denoised: seen.append((evaluation, query.sigma + float(denoised[0, 0]))),
    )
    assert_array_equal(final, ZERO + 6)
    assert seen == [(0, 6.0), (1, 4.0), (2, 2.0)]


def test_a_sampler_without_steps_ends_at_once() -> None:
    assert_array_equal(run(counting(0, []), lambda query: query.latents), ZERO)


def test_an_error_of_the_denoiser_reaches_the_caller_and_closes_the_sampler() -> None:
    closed: list[bool] = []

    def fail(query: Query) -> Array:
        raise StopIteration(query.latents)

    with pytest.raises(StopIteration):
        run(counting(3, closed), fail)
    assert closed == [True]
