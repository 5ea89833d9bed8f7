"""The projection of latents to small previews."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from diffusion.errors import DiffusionError
from diffusion.noise import noise
from diffusion.preview import project

FACTORS = [[0.2, 0.1, -0.3], [0.0, 0.5, 0.1], [-0.4, 0.2, 0.3], [0.1, 0.1, 0.1]]
BIAS = [0.1, -0.2, 0.3]


def test_the_formula() -> None:
    latents = noise(3, 0, (2, 4, 3, 5))
    pixels = project(latents, FACTORS, BIAS)
    assert pixels.shape == (2, 3, 5, 3)
    assert pixels.dtype == np.uint8
    rgb = np.einsum("bchw,cr->bhwr", latents.astype(np.float64), np.array(FACTORS)) + BIAS
    expected = np.clip((rgb + 1) / 2, 0, 1) * 255
    assert np.abs(pixels - expected).max() <= 0.501


@pytest.mark.parametrize(("value", "pixel"), [(-1, 0), (0, 128), (1, 255), (7, 255), (-7, 0), (0.5, 191)])
def test_minus_one_to_one_are_all_bytes(value: float, pixel: int) -> None:
    pixels = project(np.full((1, 1, 1, 1), value, dtype=np.float32), [[1.0, 1.0, 1.0]], [0.0, 0.0, 0.0])
    assert_array_equal(pixels, np.full((1, 1, 1, 3), pixel))


def test_what_is_no_number_is_black_and_infinity_clipped() -> None:
    latents = np.array([np.nan, np.inf, -np.inf], dtype=np.float32).reshape(1, 1, 1, 3)
    pixels = project(latents, [[1.0, 1.0, 1.0]], [0.0, 0.0, 0.0])
    assert_array_equal(pixels[0, 0, :, 0], [0, 255, 0])


@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 6), height=st.integers(1, 20), width=st.integers(1, 20))
def test_a_rows_bytes_are_the_same_in_any_batch(seed: int, batch: int, height: int, width: int) -> None:
    latents = noise(seed, 0, (batch, 4, height, width))
    together = project(latents, FACTORS, BIAS)
    for row in range(batch):
        assert project(latents[row : row + 1].copy(), FACTORS, BIAS).tobytes() == together[row].tobytes()


@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (4, 2, 2)])
def test_latents_have_the_channels_of_the_factors(shape: tuple[int, ...]) -> None:
    with pytest.raises(DiffusionError, match=r"latents=.*must be \[batch, 4, height, width\]"):
        project(np.zeros(shape, dtype=np.float32), FACTORS, BIAS)
