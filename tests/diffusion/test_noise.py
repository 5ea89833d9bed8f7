"""Noise is a function of seed, draw number and shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from diffusion.errors import DiffusionError
from diffusion.noise import LARGEST_SEED, noise

KNOWN = [1.3714008, -1.22516, 0.30271935, 1.2812377]


@given(st.integers(0, LARGEST_SEED), st.integers(0, 1000))
def test_the_same_numbers_give_the_same_noise(seed: int, draw: int) -> None:
    np.random.default_rng(0).standard_normal(7)
    assert_array_equal(noise(seed, draw, (4, 3, 5)), noise(seed, draw, (4, 3, 5)))


@given(st.integers(0, LARGEST_SEED - 1), st.integers(0, 1000))
def test_neighbours_differ(seed: int, draw: int) -> None:
    here = noise(seed, draw, (8,))
    assert not np.array_equal(here, noise(seed + 1, draw, (8,)))
    assert not np.array_equal(here, noise(seed, draw + 1, (8,)))


def test_image_k_of_a_batch_is_the_image_of_its_own_seed() -> None:
    shape = (4, 8, 8)
    batch = np.stack([noise(42 + k, 0, shape) for k in range(5)])
    assert_array_equal(batch[3], noise(45, 0, shape))


def test_it_is_standard_normal_in_float32() -> None:
    drawn = noise(0, 0, (100_000,))
    assert drawn.dtype == np.float32
    assert drawn.mean() == pytest.approx(0, abs=0.02)
    assert drawn.std() == pytest.approx(1, abs=0.02)
    assert (drawn**4).mean() == pytest.approx(3, abs=0.15)


def test_seeds_and_draws_are_uncorrelated() -> None:
    rows = np.stack([noise(seed, draw, (10_000,)) for seed in range(3) for draw in range(3)])
    others = np.corrcoef(rows) - np.eye(9)
    assert np.abs(others).max() < 0.05


def test_known_values() -> None:
    """A change here changes every picture: NumPy promises its bits, not what it makes of them."""
    np.testing.assert_allclose(noise(42, 1, (4,)), KNOWN, rtol=1e-6)


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 1.0, True])
def test_seed_is_checked(seed: int) -> None:
    with pytest.raises(DiffusionError, match="seed="):
        noise(seed, 0, (1,))


def test_draw_and_shape_are_checked() -> None:
    with pytest.raises(DiffusionError, match="draw=-1"):
        noise(0, -1, (1,))
    with pytest.raises(DiffusionError, match="shape="):
        noise(0, 0, (4, 0, 8))
