"""Enlarged latents, against torch.nn.functional.interpolate."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from diffusion.errors import DiffusionError
from diffusion.interpolation import INTERPOLATIONS, enlarged

OF_TORCH: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest"},
    "nearest_exact": {"mode": "nearest-exact"},
    "bilinear": {"mode": "bilinear"},
    "bilinear_antialiased": {"mode": "bilinear", "antialias": True},
    "bicubic": {"mode": "bicubic"},
    "bicubic_antialiased": {"mode": "bicubic", "antialias": True},
}


def test_every_interpolation_has_its_reference() -> None:
    assert OF_TORCH.keys() == INTERPOLATIONS.keys()


@pytest.mark.parametrize("size", [(16, 24), (8, 12), (11, 29), (9, 12), (64, 12)], ids=str)
@pytest.mark.parametrize("name", OF_TORCH)
def test_latents_are_enlarged_as_torch_does(name: str, size: tuple[int, int]) -> None:
    latents = np.random.default_rng(0).standard_normal((2, 4, 8, 12), np.float32)
    expected = functional.interpolate(torch.from_numpy(latents), size, **OF_TORCH[name]).numpy()
    ours = enlarged(latents, size, INTERPOLATIONS[name])
    assert ours.dtype == np.float32
    # torch counts places in 32 bits
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["nearest", "nearest_exact"])
def test_the_nearest_is_that_of_torch_at_every_size(name: str) -> None:
    """Where a place lies on the border of two, the rounding of the scale decides."""
    for given in range(1, 40, 3):
        row = np.arange(given, dtype=np.float32).reshape(1, 1, 1, given)
        for wanted in range(given, 5 * given, 2):
            expected = functional.interpolate(torch.from_numpy(row), (1, wanted), **OF_TORCH[name]).numpy()
            np.testing.assert_array_equal(enlarged(row, (1, wanted), INTERPOLATIONS[name]), expected)


def test_nothing_is_made_smaller() -> None:
    with pytest.raises(DiffusionError, match="size=7: must be at least 8"):
        enlarged(np.zeros((1, 4, 8, 8), np.float32), (8, 7), INTERPOLATIONS["bilinear"])
