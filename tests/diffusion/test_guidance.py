"""Guidance against its formula."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffusion.errors import DiffusionError
from diffusion.guidance import guide
from diffusion.noise import noise

SHAPE = (3, 4, 2, 2)
UNCOND, COND = noise(1, 0, SHAPE), noise(2, 0, SHAPE)


def test_scale_0_ignores_the_prompt_and_1_is_conditional() -> None:
    assert_array_equal(guide(UNCOND, COND, 0.0), UNCOND)
    assert_allclose(guide(UNCOND, COND, 1.0), COND, atol=5e-7)


@pytest.mark.parametrize("scale", [-1.0, 0.5, 7.5])
def test_formula(scale: float) -> None:
    expected = (1 - scale) * UNCOND.astype(np.float64) + scale * COND.astype(np.float64)
    guided = guide(UNCOND, COND, scale)
    assert guided.dtype == np.float32
    assert_allclose(guided, expected, atol=1e-5)


def test_each_row_has_its_own_scale() -> None:
    scales = np.array([0.0, 3.0, 7.5])
    together = guide(UNCOND, COND, scales)
    for row, scale in enumerate(scales):
        assert_array_equal(together[row], guide(UNCOND[row], COND[row], float(scale)))


def test_scale_is_finite() -> None:
    with pytest.raises(DiffusionError, match="scale=nan: must be finite"):
        guide(UNCOND, COND, float("nan"))
