"""Latents: scaling there and back, and noise on top."""

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.testing import assert_allclose, assert_array_equal

from diffusion.errors import DiffusionError
from diffusion.latents import add_noise, from_model, sample, to_model
from diffusion.noise import noise

SHAPE = (2, 4, 3, 3)


@pytest.mark.parametrize(("scaling", "shift"), [(0.18215, 0.0), (1.5305, 0.0609), (0.3611, 0.1159)])
def test_scaling_there_and_back(scaling: float, shift: float) -> None:
    latents = noise(1, 0, SHAPE)
    scaled = to_model(latents, scaling, shift)
    assert scaled.dtype == np.float32
    assert_allclose(scaled, (latents - shift) * scaling, rtol=1e-5, atol=1e-6)
    assert_allclose(from_model(scaled, scaling, shift), latents, atol=1e-5)


def test_a_sample_is_the_one_of_diffusers() -> None:
    # some far outside what diffusers takes for a logarithm of variance
    moments = noise(1, 0, (2, 8, 3, 3)) * np.float32(30)
    theirs = DiagonalGaussianDistribution(torch.from_numpy(moments)).sample(torch.Generator("cpu").manual_seed(7))
    ours = sample(moments[:, :4], moments[:, 4:], noise(7, 0, SHAPE))
    assert ours.dtype == np.float32
    assert_allclose(ours, theirs.numpy(), rtol=1e-5)
    for wrong in ("log_variance", "noise"):
        arrays = {"log_variance": moments[:, 4:], "noise": noise(7, 0, SHAPE), wrong: moments}
        with pytest.raises(DiffusionError, match=f"{wrong}="):
            sample(moments[:, :4], **arrays)


def test_added_noise_has_its_sigma_in_each_row() -> None:
    clean, added = noise(1, 0, SHAPE), noise(2, 0, SHAPE)
    noisy = add_noise(clean, added, np.array([0.0, 2.0]))
    assert_array_equal(noisy[0], clean[0])
    assert_allclose(noisy[1], clean[1] + 2 * added[1], rtol=1e-6)


def test_shapes_must_agree() -> None:
    with pytest.raises(DiffusionError, match="noise="):
        add_noise(noise(1, 0, SHAPE), noise(2, 0, SHAPE[1:]), 1.0)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_are_checked(factor: float) -> None:
    for scale in (to_model, from_model):
        with pytest.raises(DiffusionError, match="scaling_factor="):
            scale(noise(1, 0, SHAPE), factor)
        with pytest.raises(DiffusionError, match="shift_factor=nan"):
            scale(noise(1, 0, SHAPE), 1.0, float("nan"))
